"""Fit a device's coefficients to measured networks."""
