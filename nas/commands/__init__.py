"""The commands of the command line, one file each; they import what they run when they run, so that help is quick."""
