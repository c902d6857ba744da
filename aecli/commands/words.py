"""The words of the commands that read them by argparse: a mistake in them is one line."""

import argparse
from collections.abc import Iterable
from shlex import quote
from typing import NoReturn

from aecli.errors import SettingError


class Parser(argparse.ArgumentParser):
    """A parser that raises `SettingError` where argparse prints its usage and exits."""

    def error(self, message: str) -> NoReturn:
        """Raise the mistake in one line."""
        raise SettingError(f"{message} (see {self.prog} --help)")

    def refuse_run(self, words: Iterable[str]) -> None:
        """Refuse `run=…`, which the other commands take: say what to type instead."""
        for word in words:
            if word == "run=latest":
                raise SettingError(
                    f"{word}: type the path of a run or a folder, or {self.prog} alone"
                )
            if word.startswith("run="):
                raise SettingError(f"{word}: type {self.prog} {quote(unquoted(word[4:]))}")


def unquoted(text: str) -> str:
    """Return a value as Hydra reads it: quoted for its spaces and commas, it is what is within."""
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1].replace("\\" + text[0], text[0]) if is_quoted else text
