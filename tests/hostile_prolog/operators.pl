% refused: directive
:- op(700, xfx, :-).
:- op(200, xfy, shell).
known_node(a).
