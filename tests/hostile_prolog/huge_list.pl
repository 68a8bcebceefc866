% refused: asked
known_node(L) :- numlist(1, 30000000, L).
