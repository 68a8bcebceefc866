% refused: clause
known_node(a).
X.
