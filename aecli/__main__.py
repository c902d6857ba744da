"""`python -m aecli` is the same command as `aecli`."""

from aecli.cli import main

if __name__ == "__main__":
    main()
