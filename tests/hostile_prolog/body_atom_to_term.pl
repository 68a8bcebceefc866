% refused: goal
known_node(a) :- atom_to_term('shell(\'touch CANARY\')', G, _), call(G).
