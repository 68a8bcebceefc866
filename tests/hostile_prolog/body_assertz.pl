% refused: goal
known_node(a) :- assertz(known_node(b)).
