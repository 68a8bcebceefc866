% refused: directive
:- include('/etc/passwd').
known_node(a).
