% refused: goal
known_node(X) :- G =.. [shell, 'touch CANARY'], call(G), X = a.
