% refused: goal
known_node(a) :- thread_create(shell('touch CANARY'), _).
