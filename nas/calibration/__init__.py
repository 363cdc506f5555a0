"""Fit device files to measured networks."""
