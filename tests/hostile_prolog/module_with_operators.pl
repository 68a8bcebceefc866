% refused: directive
:- module(m, [known_node/1, op(700, xfx, ===>)]).
known_node(a).
