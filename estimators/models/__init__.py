"""What a network takes on a device: time, energy, memory, flash, kernel by kernel."""
