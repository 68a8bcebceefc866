% refused: goal
known_node(a) :- process_create(path(touch), ['CANARY'], []).
