% refused: directive
:- use_module(library(process)).
known_node(a).
