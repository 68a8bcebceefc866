% refused: directive
:- dynamic(shell('touch CANARY')), shell('touch CANARY').
known_node(a).
