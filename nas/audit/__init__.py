"""Attack a trained network as hard as the literature knows how, and report it."""
