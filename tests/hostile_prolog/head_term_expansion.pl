% refused: head
term_expansion(foo, bar) :- shell('touch CANARY').
known_node(a).
foo.
