"""Cost metrics, one file each: `estimate(architecture, device) -> Estimate`. The file name is the metric's name."""
