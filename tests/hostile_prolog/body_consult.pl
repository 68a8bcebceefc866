% refused: goal
known_node(a) :- consult('/etc/passwd').
