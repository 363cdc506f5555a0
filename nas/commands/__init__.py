"""The commands of the command line, one file each. A command imports what it runs only when it runs: help is fast."""
