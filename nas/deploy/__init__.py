"""From a network to a file that runs elsewhere, and how long it takes here."""
