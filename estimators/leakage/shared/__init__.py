"""Code that several attacks share."""
