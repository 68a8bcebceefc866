% refused: goal
known_node(X) :- format(atom(X), '~@', [shell('touch CANARY')]).
