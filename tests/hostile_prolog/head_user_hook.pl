% refused: head
user:portray(_) :- shell('touch CANARY').
known_node(a).
