% refused: directive
known_node(a).
?- shell('touch CANARY').
