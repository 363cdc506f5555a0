"""Data sets, one file each: `load(source) -> Records`. The file name is the data set's name."""
