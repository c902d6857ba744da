"""The command `aecli`, and `python -m aecli`: answers to signals, before it imports the rest."""

import sys
from functools import partial

from aecli.signals import ending, exit_on_signals


def main() -> None:
    """Run the command in `sys.argv` and exit, as `aecli.cli.main` says."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    exit_on_signals(partial(ending, word))
    from aecli import cli

    cli.main()


if __name__ == "__main__":
    main()
