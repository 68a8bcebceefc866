% refused: goal
known_node(X) :- setof(Y, Z^(shell('touch CANARY'), Y = Z), [X|_]).
