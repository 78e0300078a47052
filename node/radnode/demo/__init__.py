"""`radnode demo`: generated studies on their whole way, through a node and a PACS of its own."""
