% refused: asked
known_node(X) :- between(1, 5000, N), numlist(1, 300, L), atomic_list_concat(L, ', ', T), atom_concat(T, N, X).
