% refused: goal
known_node(a) :- halt(0).
