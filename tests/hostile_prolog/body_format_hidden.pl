% refused: goal
known_node(X) :- text(T), format(atom(X), T, [shell('touch CANARY')]).
text('~@').
