"""What a network reveals about its training records."""
