% refused: asked
known_node(X) :- between(1, 100000, X).
