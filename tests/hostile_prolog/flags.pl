% refused: directive
:- set_prolog_flag(double_quotes, codes).
:- style_check(-singleton).
known_node(a).
