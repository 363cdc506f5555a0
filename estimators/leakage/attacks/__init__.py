"""Attacks, one file each: `attack(evidence) -> scores`, one score for each record; higher means member."""
