"""The page of a run: all that it found, in one HTML file that needs no network."""
