"""What every room stands on: files, processes, errors, plug-ins, text."""
