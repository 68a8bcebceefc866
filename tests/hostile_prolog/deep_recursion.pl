% refused: asked
known_node(X) :- deep(10000000, X).
deep(0, a).
deep(N, f(X)) :- N > 0, M is N - 1, deep(M, X).
