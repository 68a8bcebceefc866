% refused: asked
known_node(X) :- X is 7 ** (7 ** (7 ** 7)).
