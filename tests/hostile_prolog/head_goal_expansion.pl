% refused: head
goal_expansion(known_node(a), shell('touch CANARY')).
known_node(a).
