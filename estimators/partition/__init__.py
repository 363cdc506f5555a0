"""Where a network is cut: between a device and an edge server (`split`), and into an enclave (`enclave`)."""
