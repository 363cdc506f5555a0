"""What a network gives away about its training records."""
