% refused: asked
known_node(X) :- known_node(X).
