% refused: goal
known_node(a) :- lists:append(X, X, [shell]).
