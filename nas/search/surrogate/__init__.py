"""Models of what is unknown before a training, and what a candidate is expected to add to a front."""
