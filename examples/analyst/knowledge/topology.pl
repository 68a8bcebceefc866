% Where things are: fourteen Proxmox nodes in three racks, each rack behind its own leaf switch.
:- module(topology, [known_node/1, node_rack/2, rack_switch/2, same_rack/2]).

rack_switch(rack_a, leaf_a).
rack_switch(rack_b, leaf_b).
rack_switch(rack_c, leaf_c).

node_rack(pve1, rack_a).
node_rack(pve2, rack_a).
node_rack(pve3, rack_a).
node_rack(pve4, rack_b).
node_rack(pve5, rack_b).
node_rack(pve6, rack_b).
node_rack(pve7, rack_c).
node_rack(pve8, rack_c).
node_rack(pve9, rack_c).
node_rack(pve10, rack_c).
node_rack(pve11, rack_c).
node_rack(pve12, rack_c).
node_rack(pve13, rack_c).
node_rack(pve14, rack_c).

known_node(Node) :- node_rack(Node, _).

% Two nodes that a failing switch or power feed takes down together.
same_rack(Node, Other) :- node_rack(Node, Rack), node_rack(Other, Rack), Node \== Other.
