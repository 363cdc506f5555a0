"""What can be built: the operator graph, the trainable network made from it, and the search spaces."""
