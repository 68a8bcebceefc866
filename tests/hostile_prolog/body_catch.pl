% refused: goal
known_node(a) :- catch(fail, _, shell('touch CANARY')).
