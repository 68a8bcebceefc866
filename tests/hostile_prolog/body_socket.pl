% refused: goal
known_node(a) :- tcp_connect('127.0.0.1':9, _, []).
