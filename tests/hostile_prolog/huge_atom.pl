% refused: asked
known_node(X) :- grow(aaaaaaaaaaaaaaaa, 40, X).
grow(X, 0, X).
grow(X, N, Z) :- N > 0, atom_concat(X, X, Y), M is N - 1, grow(Y, M, Z).
