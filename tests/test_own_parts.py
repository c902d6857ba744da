"""Parts of a user's own, through the commands: examples/own_part/ as docs/own-parts.md types it."""

import json
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml

from aecli import load
from aecli.cli import COMMANDS as COMMANDS_OF_HYDRA
from aecli.errors import SettingError
from aecli.runs.archive import CHECKSUM
from aecli.runs.checkpoint import KEY
from tests.commandline import aecli, aecli_process, is_one_line, started, without_plugins
from tests.conftest import configure

ROOT = Path(__file__).parents[1]
EXAMPLE, PAGE = ROOT / "examples" / "own_part", ROOT / "docs" / "own-parts.md"
TINY = ("trainer=debug", "pictures_every=0", "network.hidden=[8]", "dataset.train_size=64")
OWN = ("--config-dir", "my_conf", "noise=blur", "plugins=[my_noise]", "model=ae")
RUN, NAMED = "run=out/run", "plugins=[my_noise]"
CHEAP = ("eval.protocol=none", "eval.pictures=false")
COMMANDS = {
    "eval": (RUN, *CHEAP),
    "sample": (RUN, "kind=reconstruct", "n=2"),
    "encode": (RUN, "out=codes.npy"),
    "score": (RUN, "out=scores.csv"),
    "reconstruct": (RUN, "out=clean.npz"),
    "decode": (RUN, "codes=codes.csv", "out=decoded.npz"),
    "export": (RUN, "out=model.safetensors"),
    "explore": (RUN, "out=page.html"),
    "train": ("resume=out/run", "trainer.max_epochs=2"),
    "verify": ("out/run",),
}
ASKED = "made with my_noise; add plugins=[my_noise] if you trust it"
SPY = "\nfrom pathlib import Path\nPath('imported').touch()\n"


def train(folder, *words, place="run"):
    done = aecli("train", *TINY, *OWN, *words, f"hydra.run.dir=out/{place}", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "out" / place


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a copy of the example with a run in it; its module says when it is imported."""
    folder = tmp_path_factory.mktemp("home") / "own_part"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    train(folder)
    assert aecli("encode", RUN, "out=codes.csv", NAMED, cwd=folder).returncode == 0
    with (folder / "my_noise.py").open("a") as module:
        module.write(SPY)
    return folder


@pytest.fixture
def copy(home, tmp_path):
    """Return a copy of `home` that may be changed."""
    return Path(shutil.copytree(home, tmp_path / "copy"))


def test_the_page_shows_the_example():
    blocks = re.findall(r"^```(?:python|yaml)\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    files = (EXAMPLE / "my_noise.py", EXAMPLE / "my_conf" / "noise" / "blur.yaml")
    assert blocks == [path.read_text() for path in files]


def test_the_lines_of_the_page_run_as_typed(tmp_path):
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "own"))
    lines = re.findall("^    aecli (.*)$", PAGE.read_text(), re.M)
    assert len(lines) == 4
    for line in lines:
        short = TINY if line.startswith("train") else ("device=cpu",)
        done = aecli(*line.split(), *short, cwd=folder)
        assert (done.returncode, done.stderr) == (0, ""), line


def test_a_run_records_its_plugins(home):
    contents = torch.load(home / "out/run/checkpoints/best.ckpt", weights_only=True)
    assert contents[KEY]["config"]["plugins"] == ["my_noise"]
    assert contents[KEY]["config"]["noise"]["_target_"] == "my_noise.Blur"
    recorded = yaml.safe_load((home / "out/run/.hydra/config.yaml").read_text())
    assert recorded["plugins"] == ["my_noise"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_asks_for_its_plugins_and_imports_none(copy, command):
    done = aecli(command, *COMMANDS[command], cwd=copy)
    assert done.returncode == 1
    assert done.stderr.strip().endswith(f": {ASKED}")
    assert command == "verify" or is_one_line(done)
    assert not (copy / "imported").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_with_its_plugins_a_run_is_used_as_any(copy, command):
    done = aecli(command, *COMMANDS[command], NAMED, cwd=copy)
    assert (done.returncode, done.stderr) == (0, "")
    assert (copy / "imported").exists()


def test_what_train_says_to_type_next_can_be_typed(tmp_path):
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "own"))
    done = aecli("train", *TINY, *OWN, cwd=folder)
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("  aecli ")]
    more = {"eval": CHEAP, "sample": ("n=2",), "explore": ()}
    assert [words[1] for words in lines] == [*more]
    for _, *words in lines:
        assert words[-1] == NAMED
        assert aecli(*words, *more[words[0]], cwd=folder).returncode == 0


def test_an_own_metric_is_in_the_table_in_metrics_json_and_in_compare(copy):
    train(copy, "seed=1", place="other")
    done = aecli("eval", "run=out", NAMED, *CHEAP, cwd=copy)
    assert done.returncode == 0, done.stderr
    assert "sharpness" in done.stdout
    assert "grey values, of neighbouring pixels" in done.stdout
    values = {}
    for run in ("run", "other"):
        stored = json.loads((copy / "out" / run / "metrics.json").read_text())["test"]
        values[run] = stored["sharpness"]
        assert stored["own_metrics"] == {"sharpness": True}
    done = aecli("compare", "out", "--metric", "test/sharpness", cwd=copy)  # without the plugin
    assert done.returncode == 0, done.stderr
    best = max(values, key=lambda run: values[run])
    assert f"best by test/sharpness: out/{best}" in done.stdout
    assert "test/sharpness" in aecli("compare", "out", cwd=copy).stdout


def test_an_own_option_is_in_the_help_and_in_messages(copy):
    done = aecli("train", "--config-dir", "my_conf", "--help", cwd=copy)
    assert "noise: blur, gaussian, masking" in done.stdout
    done = aecli("train", "--config-dir", "my_conf", "noise=blurr", cwd=copy)
    assert "noise=blurr: must be one of blur, gaussian, masking" in done.stderr
    done = aecli("train", "--config-dir", "my_conf", "noise=blur", "noise.sides=3", cwd=copy)
    assert "noise.sides: no such setting; did you mean noise.side?" in done.stderr
    done = aecli("train", *TINY, *OWN, "noise.side=2", cwd=copy)
    assert done.stderr == "aecli: noise.side=2: must be odd\n"


def test_without_its_name_a_part_is_refused(copy):
    done = aecli("train", *TINY, *(w for w in OWN if w != NAMED), cwd=copy)
    assert is_one_line(done)
    assert "_target_=my_noise.Blur: not a part of aecli, and nothing of it was run" in done.stderr
    assert "add plugins=[my_noise] if you trust it" in done.stderr
    assert not (copy / "imported").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("return x.lerp(blurred, weight)", "return blurred[..., 1:]"),
            "noise=blur (my_noise.Blur): corrupt(x, draws) gave a tensor of shape (4, 1, 8, 7)",
        ),
        (
            ("return x.lerp(", "return x.lerpp("),
            "noise=blur (my_noise.Blur): my_noise.py:LINE: AttributeError: 'Tensor' object has no",
        ),
        (
            ("super().__init__()", "self.nn = nn"),
            "model: my_noise.py:LINE: NameError: name 'nn' is",
        ),
        (("import Noise", "import Nois"), "plugins=[my_noise]: my_noise.py:LINE: ImportError: can"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_a_mistake_in_a_part_is_one_line_and_leaves_nothing(tmp_path, change, message):
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "own"))
    module = folder / "my_noise.py"
    text = module.read_text()
    module.write_text(text.replace(*change))
    line = 1 + text.partition(change[0])[0].count("\n")
    done = aecli("train", *TINY, *OWN, cwd=folder)
    assert done.returncode == 1
    assert done.stderr.startswith(f"aecli: {message.replace('LINE', str(line))}")
    assert done.stderr.count("\n") == 1
    assert not list(folder.glob("outputs/*/*"))


def test_a_file_of_settings_cannot_name_plugins(copy):
    (copy / "my_conf" / "experiment").mkdir()
    (copy / "my_conf" / "experiment" / "gift.yaml").write_text(
        "# @package _global_\nplugins: [my_noise]\n"
    )
    line = ("--config-dir", "my_conf", "experiment=gift")
    done = aecli("train", *TINY, *line, cwd=copy)
    assert is_one_line(done)
    assert "plugins=[my_noise]: stands in a file of settings; type it" in done.stderr
    assert not (copy / "imported").exists()
    assert aecli("train", *TINY, *line, NAMED, cwd=copy).returncode == 0


@pytest.mark.parametrize(
    ("plugins", "target", "message"),
    [
        ([], "my_noise.Blur", "not a part of aecli, and nothing of it was run"),
        (["other"], "my_noise.Blur", "made with other; add plugins=[other] if you trust it"),
        (["my_noise"], "os.system", ASKED),
        ([], "os.system", "_target_=os.system: not a part of aecli"),
        (["../x"], "my_noise.Blur", "its plugins are no names of modules"),
        ("my_noise", "my_noise.Blur", "its plugins are no names of modules"),
    ],
)
def test_what_a_strangers_checkpoint_names_alone_is_never_imported(
    copy, plugins, target, message, monkeypatch
):
    monkeypatch.syspath_prepend(str(copy))  # it could be
    path = copy / "out/run/checkpoints/best.ckpt"
    contents = torch.load(path, weights_only=True)
    contents.pop(CHECKSUM)
    config = contents[KEY]["config"]
    config["plugins"] = plugins
    for noise in (config["noise"], config["model"]["noise"]):
        noise["_target_"] = target
    torch.save(contents, path)
    done = aecli("eval", RUN, *CHEAP, cwd=copy)
    assert is_one_line(done)
    assert message in done.stderr
    assert not (copy / "imported").exists()


def test_a_sweep_has_own_parts(copy):
    words = ("-m", *TINY, *OWN[:2], NAMED, "model=ae", "noise=blur,none", "hydra.sweep.dir=sweep")
    done = aecli("train", *words, cwd=copy)
    assert (done.returncode, done.stderr) == (0, "")
    assert "aecli eval run=sweep plugins=[my_noise]" in done.stdout
    assert len(list(copy.glob("sweep/*/metrics.json"))) == 2
    done = aecli("train", "-m", *TINY, "plugins=[my_noise],[other]", cwd=copy)
    assert "must be one value for the whole sweep" in done.stderr


def test_python_asks_too(copy, monkeypatch):
    monkeypatch.chdir(copy)
    with without_plugins():
        with pytest.raises(SettingError, match=r"made with my_noise; add plugins=\[my_noise\]"):
            load("out/run")
        assert not (copy / "imported").exists()
        assert type(load("out/run", plugins=["my_noise"]).model.noise).__name__ == "Blur"


def test_each_command_takes_plugins():
    assert all(configure(command=command)[0].plugins == [] for command in COMMANDS_OF_HYDRA)


def test_addresses_that_a_checkpoint_names_alone_are_not_followed(copy):
    path = copy / "out/run/checkpoints/best.ckpt"
    contents = torch.load(path, weights_only=True)
    contents.pop(CHECKSUM)
    contents[KEY]["choices"]["dataset"] = "gift"
    contents[KEY]["config"]["dataset"]["source"] = {
        "_target_": "aecli.data.IDXFiles", "name": "x", "folder": "x", "sha256": {"x": "y"},
        "mirrors": ["http://localhost:1/"], "shape": [1, 8, 8],
    }  # fmt: skip
    torch.save(contents, path)
    done = aecli("eval", RUN, NAMED, *CHEAP, cwd=copy)
    assert is_one_line(done)
    assert "its dataset=gift: has addresses that this aecli does not know" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("-m", "noise.amount=0.5,1", "launcher=joblib"),
        ("-m", "noise.amount=0.5,1", "launcher=submitit_local"),
        ("-m", "noise.amount=interval(0,1)", "sweeper=optuna", "sweeper.trials=2"),
        ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"),
    ],
    ids=lambda words: words[-1] if words[0] == "trainer=ddp" else words[2],
)
def test_other_processes_have_own_parts(copy, words):
    tiny = TINY[1:] if "trainer=ddp" in words else TINY
    done = aecli_process("train", *tiny, "trainer.max_epochs=1", *OWN, *words, cwd=copy)
    assert done.returncode == 0, done.stderr
    runs = list((copy / "outputs").rglob("metrics.json"))
    assert len(runs) == (2 if "-m" in words else 1)


@pytest.mark.slow
def test_an_interrupted_training_says_the_plugins_too(copy):
    words = (*TINY[1:], "trainer.max_epochs=100000", *OWN)
    process = started("train", *words, cwd=copy)
    deadline = time.monotonic() + 120
    while not list(copy.glob("outputs/*/*/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    line = err.partition("to go on with it: aecli ")[2].split()
    assert line[-1] == NAMED, err
    done = aecli(*line, "trainer.max_epochs=100", cwd=copy)
    assert "is done" in done.stderr or done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_command_finds_a_plugin_in_the_current_folder(copy):
    for command, words in COMMANDS.items():
        done = aecli_process(command, *words, NAMED, cwd=copy)
        assert done.returncode == 0, done.stderr
