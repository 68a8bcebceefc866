% refused: goal
known_node(a) :- use_foreign_library('/tmp/evil.so').
