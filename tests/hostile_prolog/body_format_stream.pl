% refused: goal
known_node(a) :- format(user_error, 'CANARY', []).
