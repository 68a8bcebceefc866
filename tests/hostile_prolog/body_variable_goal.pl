% refused: goal
known_node(X) :- run(shell('touch CANARY')), X = a.
run(G) :- G.
