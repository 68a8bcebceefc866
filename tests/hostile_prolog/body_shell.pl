% refused: goal
known_node(X) :- shell('touch CANARY'), X = a.
