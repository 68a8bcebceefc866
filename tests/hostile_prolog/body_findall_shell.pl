% refused: goal
known_node(X) :- findall(Y, (shell('touch CANARY'), Y = a), [X|_]).
