% refused: syntax
known_node(a).
/* :- shell('touch CANARY').
