% refused: goal
known_node(X) :- open('/etc/passwd', read, S), read_string(S, _, X).
