"""Statistics of membership scores: AUC, rates, thresholds, bounds on epsilon, and the risk of single records."""
