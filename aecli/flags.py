"""The flags of the commands that Hydra configures, such as `-m`. No torch and no Hydra here."""

from collections.abc import Sequence

from aecli.errors import SettingError

FLAGS: dict[str, tuple[str, ...] | None] = {
    "-h": (),
    "--help": (),
    "--hydra-help": (),
    "--version": (),
    "-m": (),
    "--multirun": (),
    "-r": (),
    "--run": (),
    "-c": ("job", "hydra", "all"),
    "--cfg": ("job", "hydra", "all"),
    "--resolve": (),
    "-i": ("", "all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "--info": ("", "all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "-p": None,
    "--package": None,
    "-cp": None,
    "--config-path": None,
    "-cd": None,
    "--config-dir": None,
    "-sc": (),
    "--shell-completion": (),
    "--shell_completion": (),
}
"""Hydra's flags and the words that may follow each: none, one of these ("": none), or any (None).

`--experimental-rerun` is left out, which unpickles a file, and `--config-name`: the command is it.
"""

COMPLETION = {"-sc", "--shell-completion", "--shell_completion"}
SWEEP = {"-m", "--multirun"}
SHOW = {"-h", "--help", "--hydra-help", "-c", "--cfg", "-i", "--info"}
"""Flags with which nothing is run."""
NEED = {
    "-p": {"-c", "--cfg"},
    "--package": {"-c", "--cfg"},
    "--resolve": {"-c", "--cfg", "-h", "--help"},
}
"""Flags that have an effect beside one of these only."""


def sorted_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the overrides, and the flags with the words that belong to them.

    Raises `SettingError` for a flag that there is not, or one without what belongs to it.
    """
    overrides: list[str] = []
    flags: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        flag, given, value = word.partition("=")
        if flag not in FLAGS:
            raise SettingError(_no_such_flag(word, left))
        flags.append(flag)
        takes = FLAGS[flag]
        if given:
            left.insert(0, value)
        if takes == ():
            if given:
                raise SettingError(f"{word}: {flag} takes no value")
        elif takes is None:
            if not left:
                raise SettingError(f"{flag}: needs a value after it")
            flags.append(left.pop(0))
        elif left and left[0] in takes:
            flags.append(left.pop(0))
        elif "" not in takes or given:
            typed = f"{flag} {left[0]}" if left else flag
            raise SettingError(f"{typed}: {flag} must be followed by one of {', '.join(takes)}")
    for flag in flags:
        if not NEED.get(flag, {flag}) & set(flags):
            raise SettingError(f"{flag}: goes with --cfg job")
    return overrides, flags


def _no_such_flag(word: str, after: Sequence[str]) -> str:
    if word.partition("=")[0] in ("-cn", "--config-name"):
        return f"{word}: no such flag; the first word is the command, as in aecli train"
    setting = word.lstrip("-").replace("-", "_")
    if "=" not in setting and after and not after[0].startswith("-") and "=" not in after[0]:
        setting, word = f"{setting}={after[0]}", f"{word} {after[0]}"
    hint = f"settings are typed as {setting if '=' in setting else 'model=vae'}"
    return f"{word}: no such flag; {hint} (all flags: aecli train --hydra-help)"
