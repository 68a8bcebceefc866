% refused: head
message_hook(_, _, _) :- shell('touch CANARY').
known_node(a).
