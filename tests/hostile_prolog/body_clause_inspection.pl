% refused: goal
known_node(a) :- clause(sandbox:safe_goal(_), _).
