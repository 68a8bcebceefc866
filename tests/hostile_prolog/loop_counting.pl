% refused: asked
known_node(X) :- between(1, inf, N), N < 0, X = N.
