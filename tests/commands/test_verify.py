import json
import random
import shutil
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from aecli.commands import evaluate, sample
from aecli.commands.train import train
from aecli.commands.verify import main
from aecli.errors import SettingError
from aecli.runs import records
from aecli.runs.checkpoint import AtomicCheckpointIO, read
from aecli.runs.find import find
from aecli.runs.metrics_file import update_metrics
from aecli.runs.paths import BEST, LAST, checkpoint_path
from aecli.runs.resume import State
from tests.cases import everything
from tests.conftest import configure
from tests.hostile import bounded, mutations, put, refusal

FILES = (
    "checkpoints/best.ckpt",
    "checkpoints/last.ckpt",
    ".hydra/config.yaml",
    ".hydra/overrides.yaml",
    ".hydra/hydra.yaml",
    "metrics.json",
)
WORDS = ("trainer=debug", "model=ae", "network.hidden=[8]", "optimizer.schedule=cosine")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Return a folder of one run, trained and with its settings written as Hydra does."""
    folder = tmp_path_factory.mktemp("outputs")
    run = folder / "ae-digits" / "now"
    config, choices = configure(*WORDS)
    train(config, run, choices)
    (run / ".hydra").mkdir()
    OmegaConf.save(config, run / ".hydra" / "config.yaml")
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(WORDS)))
    hydra = {"hydra": {"runtime": {"choices": choices}}}
    (run / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump(hydra))
    return folder


@pytest.fixture
def run(outputs, tmp_path):
    """Return a copy of the run."""
    return shutil.copytree(outputs / "ae-digits" / "now", tmp_path / "run")


def test_an_undamaged_run_is_fine(outputs, capsys):
    before = everything(outputs)
    main([str(outputs)])
    answer = capsys.readouterr()
    assert everything(outputs) == before
    assert answer.out.count("ok") == 3
    assert answer.err == ""
    main([str(checkpoint_path(outputs / "ae-digits" / "now", BEST))])
    assert capsys.readouterr().out.count("ok") == 1


def test_a_job_that_failed_is_no_damage(run, capsys):
    shutil.rmtree(run / "checkpoints")
    (run / "metrics.json").unlink()
    (run / ".hydra" / "config.yaml").write_text("optimizer: {lr: -1}\n")
    (run / "error.txt").write_text("optimizer.lr=-1: must be above 0\n")
    main([str(run)])
    said = capsys.readouterr().out
    assert "damaged" not in said
    assert "1 of 1 failed in training:\n  run: optimizer.lr=-1: must be above 0" in said


def test_what_is_damaged_is_named(run):
    shutil.rmtree(run / "checkpoints")
    (run / ".hydra" / "config.yaml").write_text("optimizer: {lr: -1}\n")
    with pytest.raises(SettingError, match=f"are damaged:\n  {run}: "):
        main([str(run)])


def flip(path):
    data = bytearray(path.read_bytes())
    start = data.index(b"config")
    data[start] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("checkpoints/best.ckpt", flip, "best.ckpt: cannot be read as a checkpoint"),
        ("checkpoints/last.ckpt", lambda path: path.write_bytes(b""), "last.ckpt: cannot be read"),
        (".hydra/config.yaml", lambda path: path.write_text("a: &a [*a]"), "has a YAML alias"),
        (".hydra/config.yaml", lambda path: path.write_text("a: ${oc.env:HOME}"), "oc.env"),
        (".hydra/overrides.yaml", lambda path: path.write_text("{"), "overrides.yaml: damaged"),
        (".hydra/overrides.yaml", lambda path: path.write_text("3"), "are not those of a run"),
        (".hydra/hydra.yaml", lambda path: path.write_text("a: &a [*a]"), "hydra.yaml: has a YAML"),
        ("metrics.json", lambda path: path.write_text('{"val": 3}'), "metrics.json: damaged (val)"),
        ("metrics.json", lambda path: path.write_text("{"), "metrics.json: damaged"),
        ("multirun.yaml", lambda path: path.write_text("{"), "multirun.yaml: damaged"),
    ],
)
def test_a_damaged_file_is_named(run, name, damage, reason):
    damage(run / name)
    with pytest.raises(SettingError, match="1 of 1 runs are damaged") as refused:
        main([str(run)])
    assert reason in str(refused.value)
    assert str(refused.value).count("\n") == 1


def test_all_damaged_files_are_named(run):
    flip(checkpoint_path(run, BEST))
    flip(checkpoint_path(run, LAST))
    (run / "metrics.json").write_text("")
    with pytest.raises(SettingError) as refused:
        main([str(run)])
    assert str(refused.value).count("\n") == 3


def test_weights_that_are_not_those_of_the_model_are_found(run):
    path = checkpoint_path(run, BEST)
    checkpoint = read(path)
    checkpoint["state_dict"].popitem()
    torch.save(checkpoint, path)  # with sums that are right
    with pytest.raises(SettingError, match="its weights are not those of its model"):
        main([str(run)])


def test_a_state_of_the_training_that_is_damaged_is_found(run):
    path = checkpoint_path(run, LAST)
    checkpoint = read(path)
    checkpoint["optimizer_states"][0]["state"].popitem()
    torch.save(checkpoint, path)
    with pytest.raises(SettingError, match="must have a state of each parameter that is trained"):
        main([str(run)])


def test_a_run_of_another_version_that_was_not_finished_is_fine(run, capsys):
    for name in (BEST, LAST):
        checkpoint = read(checkpoint_path(run, name))
        checkpoint["aecli"]["version"] = "0.0.1"
        torch.save(checkpoint | {"loops": {}}, checkpoint_path(run, name))
    (run / "metrics.json").unlink()
    update_metrics(run, {"test": {"mse": 0.1}})  # evaluated before it has ended
    main([str(run)])
    assert capsys.readouterr().out.count("ok") == 3


def test_a_training_that_has_just_begun_is_fine(run, capsys):
    shutil.rmtree(run / "checkpoints")
    (run / "metrics.json").unlink()
    main([str(run)])
    answer = capsys.readouterr().out
    assert (answer.count("ok"), answer.count("–")) == (1, 2)


def test_a_place_without_runs_is_refused(tmp_path):
    assert "no run lies there" in refusal(main, [str(tmp_path)])
    assert "no run lies there" in refusal(main, [str(tmp_path / "nowhere")])
    assert refusal(main, ["run=x y"]) == "run=x y: type aecli verify 'x y'"
    assert refusal(main, ['run="x, y"']) == "run=\"x, y\": type aecli verify 'x, y'"
    (tmp_path / "loop").symlink_to("loop")
    assert "no run lies there" in refusal(main, [str(tmp_path / "loop")])


class Opened(BaseException):
    """A command has read all that it reads of a run."""


def opens(*_, **__):
    raise Opened


@cache
def settings(command, run):
    return configure(f"run={run}", command=command)[0]


COMMANDS = {
    "eval": lambda run: evaluate.main(settings("eval", run)),
    "sample": lambda run: sample.main(settings("sample", run)),
    "compare": lambda run: records.read_record(*records.find([str(run)], Path())),
    "resume": lambda run: resume(run),
}


def resume(run):
    state = State.read(run)
    found = state.resumable()
    train(found.config, run, found.choices, state.last)


@pytest.fixture
def refusals(monkeypatch):
    """Return a function: the lines by which the commands refuse a run, without their keys."""
    monkeypatch.setattr(evaluate, "_measure", opens)
    monkeypatch.setattr(sample, "_check_memory", opens)
    monkeypatch.setattr("aecli.commands.train._pretrain", opens)
    loaded = AtomicCheckpointIO.load_checkpoint

    def load(self, *args, **kwargs):
        loaded(self, *args, **kwargs)
        raise Opened

    monkeypatch.setattr(AtomicCheckpointIO, "load_checkpoint", load)

    def said(run):
        lines = []
        for command in COMMANDS.values():
            with suppress(Opened):
                lines.append(refusal(command, run) or "")
        return {line.removeprefix("run=").removeprefix("resume=") for line in lines if line}

    return said


def check(run, refusals, what):
    """Require that `verify` refuses what a command refuses, by the same line."""
    lines = refusals(run)
    with bounded():
        verdict = refusal(partial(verified, run))
    for line in lines:
        if not any(text in line for text in ("has no checkpoint", "no run lies there")):
            assert line in (verdict or ""), (what, line, verdict)
    return bool(lines)


def verified(run):
    """Verify a run; what is said of its files becomes one line."""
    try:
        main([str(run)])
    except SettingError as error:
        raise SettingError(str(error).replace("\n", " ")) from error


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize(
    "kind",
    [
        "pipe",
        *(
            pytest.param(kind, marks=pytest.mark.slow)
            for kind in ("missing", "empty", "device", "folder", "loop", "nowhere")
        ),
    ],
)
def test_what_is_no_ordinary_file_is_refused_as_the_commands_refuse_it(run, refusals, kind):
    home = run.parent / "whole"
    run.rename(home)
    refused = 0
    for name in (*FILES, ".hydra", "checkpoints"):
        shutil.copytree(home, run)
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        put(path, kind)
        refused += check(run, refusals, (name, kind))
        shutil.rmtree(run)
    assert refused >= 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("name", FILES)
def test_whatever_a_file_holds_verify_refuses_what_the_commands_refuse(run, refusals, name):
    generator = random.Random(name)
    path = run / name
    if name == ".hydra/hydra.yaml":  # read where there is nothing else yet
        shutil.rmtree(run / "checkpoints")
        (run / "metrics.json").unlink()
    before, refused = path.read_bytes(), 0
    for case in range(20):
        data = bytearray(before)
        if case % 2 and path.suffix == ".ckpt":
            _, made = next(mutations(read(path), generator))
            torch.save(made, path)
        elif case % 2:
            tree = json.loads(before) if path.suffix == ".json" else yaml.safe_load(before)
            _, made = next(
                mutations(dict(enumerate(tree)) if name == FILES[3] else tree, generator)
            )
            path.write_text(json.dumps(made, default=str))
        else:
            start = generator.randrange(len(data))
            data[start : start + generator.randrange(1, 50)] = generator.randbytes(20)
            path.write_bytes(data)
        refused += check(run, refusals, (name, case))
        path.write_bytes(before)
    assert refused >= 5


def test_the_runs_of_verify_are_those_that_eval_finds(outputs):
    (found,) = find(str(outputs / "ae-digits"))
    assert found.directory == outputs / "ae-digits" / "now"
