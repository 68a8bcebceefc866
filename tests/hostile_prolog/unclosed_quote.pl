% refused: syntax
known_node('a).
