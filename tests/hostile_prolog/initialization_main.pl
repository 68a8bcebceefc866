% refused: directive
:- initialization(main, main).
main :- true.
known_node(a).
