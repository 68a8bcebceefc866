% refused: directive
:- table known_node/1.
known_node(a).
