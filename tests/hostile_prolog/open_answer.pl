% refused: asked
known_node(_).
