"""What a network costs on a device, in numbers, tables and pictures."""
