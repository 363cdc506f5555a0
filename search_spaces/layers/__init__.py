"""Fake-quantised modules that the network builder puts together."""
