"""Defences in the manner of published ones, to see that each fits into a file; too small to be of use."""
