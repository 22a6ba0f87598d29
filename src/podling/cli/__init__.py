"""The `podling` command: one command, one file."""
