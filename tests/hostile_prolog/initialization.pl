% refused: directive
known_node(a).
:- initialization(shell('touch CANARY')).
