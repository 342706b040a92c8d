"""Cards at the desk and the command line: made, found, changed, ended."""
