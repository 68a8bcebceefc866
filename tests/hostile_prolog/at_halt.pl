% refused: directive
:- at_halt(shell('touch CANARY')).
known_node(a).
