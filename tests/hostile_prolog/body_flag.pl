% refused: goal
known_node(a) :- set_prolog_flag(unknown, fail), nb_setval(x, 1).
