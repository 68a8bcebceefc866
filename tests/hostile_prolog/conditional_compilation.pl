% refused: directive
:- if(shell('touch CANARY')).
known_node(a).
:- endif.
