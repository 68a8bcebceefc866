% refused: goal
known_node(X) :- system:shell('touch CANARY'), X = a.
