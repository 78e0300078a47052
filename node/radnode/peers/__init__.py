"""Who may speak with the node, and what is said of each: the table, its history, the test of a connection."""
