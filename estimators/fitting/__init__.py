"""From measured networks to a device's coefficients."""
