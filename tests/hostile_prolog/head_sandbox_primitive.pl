% refused: head
sandbox:safe_primitive(system:shell(_)).
known_node(X) :- X = a.
