"""The commands: one module each, to be read from top to bottom."""
