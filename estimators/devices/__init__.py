"""Devices: one TOML file each, and what its fields mean."""
