"""A network as C99: whole numbers, weights packed at their own bits, and one array for its tensors."""
