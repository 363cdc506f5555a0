"""What several data sets share, each of which knows no other."""
