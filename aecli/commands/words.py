"""The words of the commands that read them by argparse: a mistake in them is one line."""

import argparse
from typing import NoReturn

from aecli.errors import SettingError


class Parser(argparse.ArgumentParser):
    """A parser that raises `SettingError` where argparse prints its usage and exits."""

    def error(self, message: str) -> NoReturn:
        """Raise the mistake in one line."""
        raise SettingError(f"{message} (see {self.prog} --help)")
