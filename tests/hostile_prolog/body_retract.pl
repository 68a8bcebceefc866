% refused: goal
known_node(a).
known_node(b) :- retractall(known_node(_)).
