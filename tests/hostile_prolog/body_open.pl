% refused: goal
known_node(X) :- open('CANARY', write, S), close(S), X = a.
