"""How well scores tell members from others: rates, thresholds, bounds, and the risk of single records."""
