% refused: goal
known_node(a) :- apply_to(shell, ['touch CANARY']).
apply_to(P, L) :- maplist(P, L).
