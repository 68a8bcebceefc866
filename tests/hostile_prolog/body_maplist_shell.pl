% refused: goal
known_node(a) :- maplist(shell, ['touch CANARY']).
