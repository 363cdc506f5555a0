"""The operator graph, what simplifies it, and which graphs are the same network."""
