"""`aecli tour`: its commands are aecli's, every step has its picture, and it can be left at any."""

import re
import shlex
import signal
import sys
from types import SimpleNamespace

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

from aecli import progress
from aecli.commands import tour
from aecli.commands.tour.steps import EXPLORE, STEPS
from aecli.errors import SettingError
from tests.commandline import aecli, started
from tests.conftest import configure
from tests.test_readme import values

PLACES = {"digits": "d", "wine": "w", "run": "r", "sweep": "s"}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.title)
def test_a_step_is_short_and_its_commands_are_aeclis(step):
    assert len(re.findall(r"[.?:](?: |$)", step.idea)) <= 7
    assert step.question.endswith("?")
    for command in step.commands:
        word, *words = shlex.split(command.format_map(PLACES))
        if word == "compare":
            continue
        typed = [text for text in words if text != "-m"]
        overrides = OverridesParser.create().parse_overrides(typed)
        for first in (0, -1):
            configure(*[values(one)[first] for one in overrides], command=word)


@pytest.mark.slow
def test_it_goes_from_the_first_step_to_the_last(tmp_path, monkeypatch, capsys):
    """The whole tour without a terminal, with trainings of two epochs."""
    ran = []

    def run(command):
        ran.append(shlex.split(command))
        if command.startswith("explore"):  # is tested with the command itself
            return
        words = [word for word in ran[-1] if not word.startswith("trainer.max_epochs")]
        short = ["trainer.max_epochs=2"] if words[0] == "train" else []
        done = aecli(*words, *short, cwd=tmp_path)
        assert done.returncode == 0, done.stderr

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tour, "_run", run)
    tour.main([])
    said = capsys.readouterr().out
    assert len(ran) == sum(len(step.commands) for step in STEPS) + 1
    for number, step in enumerate(STEPS, 1):
        assert f"{number} of 8  {step.title}" in said
        assert f"The picture: outputs/tour/{number}.png" in said
        with Image.open(tmp_path / "outputs" / "tour" / f"{number}.png") as picture:
            assert picture.width > 400
    assert ran[-1] == ["explore", "run=outputs/tour/digits", "out=outputs/tour/explore.html"]
    assert said.splitlines()[-1] == "The page: outputs/tour/explore.html"


def test_it_starts_where_it_is_told_to_in_a_folder_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "tour").mkdir(parents=True)
    taken = []
    monkeypatch.setattr(tour, "_take", lambda number, folder: taken.append((number, folder.name)))
    monkeypatch.setattr(tour, "_end", lambda folder: None)
    tour.main(["7"])
    assert taken == [(7, "tour-2"), (8, "tour-2")]
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["tour"]  # nothing was made


@pytest.mark.parametrize("typed", ["0", "9", "x", "1.5", "-"])
def test_a_step_that_there_is_not_is_refused(typed):
    with pytest.raises(SettingError, match=f"tour {typed}: must be the number of a step, from 1"):
        tour.main([typed])


def at_a_terminal(monkeypatch, answers):
    def answer(prompt):
        found = next(answers)
        if isinstance(found, BaseException):
            raise found
        return found

    monkeypatch.setattr(progress, "is_terminal", lambda: True)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", answer)


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, EOFError])
def test_at_a_terminal_it_waits_and_can_be_left(tmp_path, monkeypatch, leaving):
    monkeypatch.chdir(tmp_path)
    at_a_terminal(monkeypatch, iter([leaving()]))
    with pytest.raises(KeyboardInterrupt, match=r"; to go on: aecli tour 3$"):
        tour.main(["3"])
    assert not list((tmp_path / "outputs").iterdir())


def test_a_command_that_fails_says_how_to_try_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failing = SimpleNamespace(wait=lambda: 1, kill=lambda: None)
    monkeypatch.setattr(tour.subprocess, "Popen", lambda *_, **__: failing)
    told = r"tour: aecli train has failed \(exit status 1\); to try again: aecli tour 6"
    with pytest.raises(SettingError, match=told):
        tour.main(["6"])


def test_at_its_end_it_can_be_gone_on_with_by_the_last_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def take(number, folder):
        (folder / "wine").mkdir(exist_ok=True)

    monkeypatch.setattr(tour, "_take", take)
    at_a_terminal(monkeypatch, iter([EOFError()]))
    told = EXPLORE.format(made="outputs/tour/wine", tour="outputs/tour")
    with pytest.raises(KeyboardInterrupt, match=f"; to go on: aecli {told}"):
        tour.main(["8"])


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_its_command_with_one_line(number, status, tmp_path):
    process = started("tour", "8", cwd=tmp_path)
    for line in process.stdout:
        if "parameters" in line:  # the training has begun
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == status
    what = "interrupted" if number == signal.SIGINT else "terminated"
    assert err == f"aecli: {what}; to go on: aecli tour 8\n"
    assert "done:" not in out
