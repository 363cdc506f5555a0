"""From measured networks to a device file."""
