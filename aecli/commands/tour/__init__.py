"""`aecli tour`: the ideas behind autoencoders in eight steps, each with a command and a picture.

Imports no torch: the commands run in processes of their own, as if they were typed.
"""

import shlex
import signal
import subprocess
import sys
import textwrap
from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console

from aecli import files, progress
from aecli.commands.tour.steps import END, EXPLORE, STEPS, Step
from aecli.commands.words import Parser
from aecli.errors import SettingError
from aecli.runs.paths import SWEEP, make_new, newest, shown
from aecli.signals import Terminated

TOUR = Path("outputs") / "tour"
WIDEST = 80
"""Characters in a line of text."""

DESCRIPTION = """\
Tells what autoencoders do, in eight steps of under a minute: an idea, the command that shows it, a
picture, and a question that the picture answers. The commands run on 8x8 digits that come with
scikit-learn; their runs and pictures go to outputs/tour, or outputs/tour-2, ….
"""


def main(arguments: Sequence[str]) -> None:
    """Go through the tour, from the step that is typed, or else from the first.

    Raises `SettingError` if a command of it fails; `KeyboardInterrupt` and `Terminated` say in
    their argument how to go on.
    """
    number = _first(arguments)
    folder = make_new(TOUR)
    try:
        while number <= len(STEPS):
            _take(number, folder)
            number += 1
        _end(folder)
    except (KeyboardInterrupt, Terminated) as stopped:
        raise type(stopped)(f"; to go on: {_how_to_go_on(number, folder)}") from None
    except EOFError:  # Ctrl-D
        raise KeyboardInterrupt(f"; to go on: {_how_to_go_on(number, folder)}") from None
    except SettingError as error:
        raise SettingError(f"{error}; to try again: {_how_to_go_on(number, folder)}") from error
    finally:
        with suppress(OSError):  # it is kept if anything is in it
            folder.rmdir()


def _first(arguments: Sequence[str]) -> int:
    names = "".join(f"  {number}  {step.title}\n" for number, step in enumerate(STEPS, 1))
    parser = Parser(
        prog="aecli tour",
        description=DESCRIPTION,
        epilog=f"steps:\n{names}",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("step", nargs="?", default="1", help="where to start, 1 to 8 (default: 1)")
    typed = parser.parse_args(arguments).step
    if typed not in map(str, range(1, len(STEPS) + 1)):
        raise SettingError(f"tour {typed}: must be the number of a step, from 1 to {len(STEPS)}")
    return int(typed)


def _how_to_go_on(number: int, folder: Path) -> str:
    return f"aecli tour {number}" if number <= len(STEPS) else f"aecli {_explore(folder)}"


def _take(number: int, folder: Path) -> None:
    """Show a step: its idea, its commands as they run, its picture and its question."""
    step = STEPS[number - 1]
    _say(f"\n{number} of {len(STEPS)}  {step.title}", style="bold")
    _say(step.idea.format_map(_places(step, folder)))
    if "{wine}" in step.commands[0]:
        _write_wine(folder / "wine" / "wine.csv")
    for command in step.commands:
        _run(command.format_map(_places(step, folder)))
    (made,) = shlex.split(step.picture.format_map(_places(step, folder)))
    picture = files.write(folder / f"{number}.png", Path(made).read_bytes())
    _say(f"\nThe picture: {shown(picture)}", style="bold", wrapped=False)
    _say(step.question)
    if number < len(STEPS):
        _wait("Enter for the next step")


def _end(folder: Path) -> None:
    """Make the page of everything."""
    _say("\nThe end, to play with", style="bold")
    _say(END)
    _run(_explore(folder))
    _say(f"\nThe page: {shown(folder / 'explore.html')}", style="bold", wrapped=False)


def _explore(folder: Path) -> str:
    made = next(name for name in ("digits", "wine") if (folder / name).is_dir())
    places = {"made": folder / made, "tour": folder}
    return EXPLORE.format_map({name: shlex.quote(shown(path)) for name, path in places.items()})


def _places(step: Step, folder: Path) -> Mapping[str, str]:
    """Return what stands for the names in braces of a step, as far as it is there."""
    places = {"digits": folder / "digits", "wine": folder / "wine"}
    of_step = places["wine"] if "{wine}" in step.commands[0] else places["digits"]
    sweeps = sorted(of_step.glob(f"sweeps/*/{SWEEP}"), key=lambda path: path.stat().st_mtime_ns)
    if sweeps:
        places["sweep"] = sweeps[-1].parent
    if run := next(newest(of_step), None):
        places["run"] = run
    return {name: shlex.quote(shown(path)) for name, path in places.items()}


def _run(command: str) -> None:
    """Show a command and run it, as if it were typed.

    Raises `SettingError` if it fails.
    """
    words = shlex.split(command)
    _say(f"\n$ aecli {command}", style="bold", wrapped=False)
    _wait("Enter runs it")
    # It ignores Ctrl-C, which is for the tour: this one says how to go on.
    with _ignoring_interrupts():
        child = subprocess.Popen([sys.executable, "-m", "aecli", *words], stdin=subprocess.DEVNULL)
    try:
        status = child.wait()
    finally:
        child.kill()  # what it leaves half done is no harm: files appear whole or not at all
        child.wait()
    if status == -signal.SIGPIPE:  # nobody reads on, as after | head
        sys.exit(128 + signal.SIGPIPE)
    if status:
        raise SettingError(f"tour: aecli {words[0]} has failed (exit status {status})")


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _say(text: str, style: str = "", *, wrapped: bool = True) -> None:
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    width = min(WIDEST, progress.width() or WIDEST)
    lines = [textwrap.fill(line, width) for line in text.split("\n")] if wrapped else [text]
    console.print("\n".join(lines), style=style)
    sys.stdout.flush()  # before the lines of the command


def _wait(prompt: str) -> None:
    """Wait for Enter at a terminal; go on at once without one."""
    if sys.stdin is not None and sys.stdin.isatty() and progress.is_terminal():
        input(f"[{prompt}, Ctrl-C ends the tour] ")


def _write_wine(path: Path) -> None:
    """Write the table of wines that comes with scikit-learn."""
    from sklearn.datasets import load_wine

    wine = load_wine(as_frame=True)
    parts = ["test", "validation", "train", "test", "train", "train"]  # each of all cultivars
    part = [parts[row % len(parts)] for row in range(len(wine.data))]
    table = wine.data.assign(cultivar=["ABC"[number] for number in wine.target], part=part)
    files.write(path, table.to_csv(index=False))
