% refused: goal
known_node(a) :- \+ shell('touch CANARY').
