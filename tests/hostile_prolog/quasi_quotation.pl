% refused: quasi_quotation
known_node({|html||<b>touch CANARY</b>|}).
