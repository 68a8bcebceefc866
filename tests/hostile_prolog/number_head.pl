% refused: head
42.
"text".
known_node(a).
