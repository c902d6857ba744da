"""The command line as typed."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from aecli import cli
from aecli.cli import COMMANDS, PLAIN_COMMANDS
from tests.commandline import COMMAND, aecli, aecli_process, started
from tests.conftest import EXPERIMENTS, VARIANTS, options


def complete(line, cwd):
    return aecli("-sc", "query=bash", cwd=cwd, COMP_LINE=line, COMP_POINT=str(len(line)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train once in a process and a folder of its own; return the folder and what was printed."""
    folder = tmp_path_factory.mktemp("elsewhere")
    done = aecli_process("train", "trainer.max_epochs=2", "network.hidden=[32]", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_bare_aecli_says_what_it_can_do(tmp_path):
    for words in ([], ["--help"], ["-h"]):
        done = aecli(*words, cwd=tmp_path)
        assert done.returncode == 0
        assert done.stdout.count("aecli train") >= 3
        assert "aecli eval" in done.stdout
        assert "aecli sample" in done.stdout
    assert aecli("--version", cwd=tmp_path).stdout.startswith("aecli ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["train", "eval", "sample"])
def test_help_and_cfg(command, tmp_path):
    done = aecli(command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"aecli {command} [SETTING=VALUE ...]" in done.stdout
    done = aecli(command, "--cfg", "job", cwd=tmp_path)
    assert done.returncode == 0
    assert "output_dir: outputs" in done.stdout
    assert not list(tmp_path.iterdir())


def test_help_lists_the_groups(tmp_path):
    out = aecli("train", "--help", cwd=tmp_path).stdout
    for group in ("model", "noise", "sparsity", "likelihood", "optimizer", "dataset"):
        assert f"{group}: {', '.join(options(group))}" in out
    assert "hydra" not in out.split("== Parts")[1].split("== Settings")[0]


@pytest.mark.parametrize(
    "words", [[], ["train", "--help"], ["train", "modle=vae"], ["-sc", "query=bash"]]
)
def test_quick_answers_import_no_torch(words, tmp_path):
    code = (
        "import sys; sys.argv[0] = 'aecli'\n"
        "from aecli.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'lightning', 'sklearn', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False,
        cwd=tmp_path, env=os.environ | {"COMP_LINE": "aecli train mod"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["fit"], 2, "aecli: no command 'fit': must be one of train, eval, sample"),
        (["train", "modle=vae"], 1, "modle: no such setting; did you mean model?"),
        (["train", "model=gan"], 1, f"model=gan: must be one of {', '.join(VARIANTS)}"),
        (
            ["train", "experiment=kingma"],
            1,
            f"experiment=kingma: must be one of {EXPERIMENTS[0]}",
        ),
        (["train", "noise.amount=0.3"], 1, "noise.amount: no such setting (noise has no settings"),
        (["train", "seed=one"], 1, "seed=one: must be a whole number"),
        (["train", "epochs=2"], 1, "did you mean trainer.max_epochs?"),
        (["train", "+epochs=2"], 1, "epochs: no such setting; must be one of dataset, trainer"),
        (
            ["train", "noise=none", "+noise.std=0.3"],
            1,
            "noise.std=0.3: no such setting (noise has no",
        ),
        (["train", "trainer.max_epochs=-1"], 1, "trainer.max_epochs=-1: must be a whole number"),
        (["train", "dataset=mnist", "dataset.root=nowhere"], 1, "dataset.root=nowhere: no such"),
        (["train", "network.hidden=[10,", "5]"], 1, "in quotes"),
        (["compare", "--foo"], 1, "unrecognized arguments: --foo (see aecli compare --help)"),
        (["verify", "--foo"], 1, "unrecognized arguments: --foo (see aecli verify --help)"),
        (["eval", "latest"], 1, "must be SETTING=VALUE, such as run=latest"),
        (["eval", "eval.noise_levels=0.3"], 1, "0.3"),
        (["train", "~model"], 1, "~model: a setting cannot be taken away"),
        (["train", "network.hidden=${no}"], 1, "network.hidden=${no}: there is no setting no"),
        (["train", "noise=masking", "noise.amount=1.5"], 1, "noise.amount=1.5: must be a number"),
        (["train", "model=ksparse_ae", "sparsity.k=0"], 1, "sparsity.k=0: must be a whole number"),
        (["train", "model=pca", "sparsity=topk"], 1, "model=pca"),
        (["train", "trainer.accelerator=abacus"], 1, "trainer.accelerator=abacus: must be one"),
        (["eval", "run=nowhere"], 1, "run=nowhere: no such file"),
        (["eval"], 1, "run=latest: no run with a checkpoint under outputs"),
    ],
)
def test_a_mistake_gets_plain_lines_and_no_traceback(words, code, message, tmp_path):
    done = aecli(*words, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr
    assert done.stderr.startswith("aecli: ")
    assert done.stderr.count("\n") == 1


def test_a_traceback_is_there_for_who_wants_it(tmp_path):
    done = aecli("eval", "run=nowhere", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_train_piped_prints_short_plain_lines_once(trained):
    _, done = trained
    lines = done.stdout.splitlines()
    assert lines[0].startswith("vae on digits: 1,237 training")
    assert sum("epoch 2/2" in line for line in lines) == 1
    assert len(lines) == len(set(lines))
    assert "\r" not in done.stdout
    assert done.stderr == ""


def test_the_commands_that_train_names_work(trained):
    folder, done = trained
    named = [line.split() for line in done.stdout.splitlines() if line.startswith("  aecli")]
    assert [words[1] for words in named] == ["eval", "sample", "explore"]
    for words in named:
        again = aecli(*words[1:], cwd=folder)
        assert again.returncode == 0, again.stderr
        assert again.stderr == ""
    assert (folder / "explore.html").exists()
    (run,) = (folder / "outputs" / "vae-digits").iterdir()
    assert {"eval", "samples", "checkpoints", ".hydra", "metrics.json", "train.log"} <= {
        path.name for path in run.iterdir()
    }


@pytest.mark.slow
def test_runs_at_once_get_directories_of_their_own(tmp_path):
    line = ("train", "trainer=debug", "hydra.run.dir=same")
    jobs = [started(*line, cwd=tmp_path) for _ in range(2)]
    said = [job.communicate(timeout=600) for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["same", "same-2"]


@pytest.mark.slow
def test_ctrl_c_saves_last_ckpt_and_ends_cleanly(tmp_path):
    # A shell's background job, as CI may be one, is deaf to Ctrl-C, and so are its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    job = started("train", "trainer.max_epochs=100000", "pictures_every=0", cwd=tmp_path)
    signal.signal(signal.SIGINT, before)
    for line in job.stdout:
        if "epoch" in line:
            break
    time.sleep(1)
    job.send_signal(signal.SIGINT)
    out, err = job.communicate(timeout=300)
    assert job.returncode == 130
    assert "Traceback" not in err
    assert "interrupted" in out + err
    (run,) = (tmp_path / "outputs" / "vae-digits").iterdir()
    last = f"run={run}/checkpoints/last.ckpt"
    assert aecli("eval", last, "eval.protocol=none", cwd=tmp_path).returncode == 0


def test_completion_of_the_command_the_groups_and_the_settings(tmp_path):
    commands = [*COMMANDS, *PLAIN_COMMANDS]
    assert complete("aecli tr", tmp_path).stdout.split() == commands
    assert "model=ksparse_ae" in complete("aecli train model=", tmp_path).stdout.split()
    assert "noise.amount=" in complete("aecli train noise=masking noise.", tmp_path).stdout
    assert "kind=" in complete("aecli sample ki", tmp_path).stdout
    assert "quantile=" in complete("aecli score qu", tmp_path).stdout
    assert "dataset=array" in complete("aecli data dataset=", tmp_path).stdout.split()
    assert "complete" in aecli("-sc", "install=bash", cwd=tmp_path).stdout


def test_metrics_json_is_json(trained):
    folder, _ = trained
    (path,) = (folder / "outputs").glob("*/*/metrics.json")
    assert json.loads(path.read_text())["choices"]["model"] == "vae"


def test_a_lone_checkpoint_is_evaluated_without_touching_its_neighbours(trained, tmp_path):
    folder, _ = trained
    (best,) = (folder / "outputs").glob("*/*/checkpoints/best.ckpt")
    (tmp_path / "mine.ckpt").write_bytes(best.read_bytes())
    (tmp_path / "metrics.json").write_text("precious")
    words = ["eval.protocol=none", "eval.pictures=false", "eval.importance_samples=0"]
    done = aecli("eval", "run=mine.ckpt", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "metrics.json").read_text() == "precious"
    assert (tmp_path / "mine-aecli" / "metrics.json").exists()


@pytest.mark.parametrize("words", [("train",), ("eval", "run=latest"), ("compare",), ("data",)])
def test_a_folder_that_is_gone_is_named_as_the_cause(words, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    line = f'rmdir "$PWD"; exec {shlex.join(COMMAND)} {shlex.join(words)}'
    done = subprocess.run(["bash", "-c", line], cwd=gone, capture_output=True, text=True)
    assert done.returncode == 1
    expected = f"aecli: {words[0]}: the folder that it was typed in is gone; cd into another one\n"
    assert done.stderr == expected


@pytest.mark.slow
def test_a_pipe_that_closes_ends_it_in_silence(tmp_path):
    line = f"{shlex.join(COMMAND)} train trainer=debug | head -1"
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_a_refused_training_leaves_no_run_that_latest_would_take(tmp_path):
    good = ("train", "model=ae", "trainer=debug", "network.hidden=[8]")
    assert aecli(*good, cwd=tmp_path).returncode == 0
    refused = aecli(*good, "pretraining=rbm", "network.activation=relu", cwd=tmp_path)
    assert refused.stderr.startswith("aecli: pretraining: ")
    assert len(list((tmp_path / "outputs" / "ae-digits").iterdir())) == 1
    done = aecli("train", "resume=latest", "trainer.max_epochs=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("is_terminal", "before"), [(True, "\n"), (False, "")])
def test_the_line_of_an_interruption_stands_below_what_was_typed(
    monkeypatch, capsys, is_terminal, before
):
    """A terminal shows ^C where the cursor was."""

    def interrupted(*_):
        raise KeyboardInterrupt("; to go on: aecli tour 3")

    monkeypatch.setattr(cli, "_run_plain", interrupted)
    monkeypatch.setattr(cli, "exit_on_signals", lambda ending: None)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["aecli", "tour"])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == f"{before}aecli: interrupted; to go on: aecli tour 3\n"
