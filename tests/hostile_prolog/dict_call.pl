% refused: dict
known_node(X) :- X = _{a: 1}.put(b, 2).
