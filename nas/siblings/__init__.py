"""How far adversarial examples made on a shipped network fool the server network that it is a sibling of."""
