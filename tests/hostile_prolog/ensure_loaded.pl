% refused: directive
:- ensure_loaded('/etc/passwd').
:- load_files('/etc/passwd', []).
:- [user].
known_node(a).
