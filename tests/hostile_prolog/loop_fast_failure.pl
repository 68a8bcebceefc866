% refused: asked
known_node(a) :- numlist(1, 3000, L), member(A, L), member(B, L), member(C, L), A + B + C < 0.
