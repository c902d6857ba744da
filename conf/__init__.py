"""The configuration, installed as the package `aecli.conf`."""
