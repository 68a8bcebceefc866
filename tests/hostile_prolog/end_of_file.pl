% refused: end_of_file
known_node(a).
end_of_file.
:- shell('touch CANARY').
