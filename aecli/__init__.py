"""aecli: train, evaluate and compare autoencoders from the command line."""

__version__ = "0.1.0"
