% refused: grammar
known_node(a) --> { shell('touch CANARY') }.
known_node(a).
