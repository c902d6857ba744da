"""`aecli eval` of a sparse dictionary: its figures, and the page of the top rows."""

import csv
import json
import re

import numpy as np
import pytest
import torch

from aecli.commands.evaluate import evaluate
from aecli.commands.train import train
from aecli.errors import SettingError
from aecli.runs.find import find
from aecli.runs.load import load
from tests.commandline import aecli
from tests.conftest import configure

ROWS, D, N = 400, 8, 32
HOSTILE = '<script>alert("1")</script>'


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a run on rows in a file, with tokens beside it."""
    folder = tmp_path_factory.mktemp("work")
    rows = np.random.default_rng(0).normal(size=(ROWS, D)).astype(np.float32)
    np.save(folder / "x.npy", rows)
    places = np.arange(ROWS) % 10 + 1  # contexts of ten tokens
    tokens = np.stack([np.arange(ROWS) % 5, places], axis=1)
    np.save(folder / "x.tokens.npy", tokens.astype(np.int32))
    words = ["zero", HOSTILE, "\x1b[31m\ud800", "three\n"]  # none for token 4
    (folder / "vocabulary.json").write_text(json.dumps(words))
    config, choices = configure(
        "trainer=debug",
        "model=topk_sae",
        f"model.code_dim={N}",
        "sparsity.k=3",
        "dataset=array",
        f"dataset.file={folder}/x.npy",
        "pictures_every=0",
    )
    directory = folder / "run"
    train(config, directory, choices)
    (directory / ".hydra").mkdir(exist_ok=True)
    return directory


def evaluated(run, *words, batch_size=50):
    words = (*words, f"eval.batch_size={batch_size}", "eval.noise_levels=[]")
    config, _ = configure(*words, command="eval")
    return evaluate(*find(str(run)), config.eval, 0)


def test_the_figures_are_those_of_dense_codes_over_the_whole_split(run):
    values = evaluated(run, batch_size=17)
    loaded = load(*find(str(run)))
    x = loaded.card.scaled(loaded.data.splits["test"].values).double()
    codes = loaded.model.encode(x.float()).double()
    output = loaded.model.decode(codes.float()).mean.double()
    spread = (x - x.mean(dim=0)).square().sum()
    expected = {
        "explained_variance": 1 - (x - output).square().sum() / spread,
        "norm_ratio": output.square().sum() / (x * output).sum(),
        "cosine": torch.cosine_similarity(x, output).mean(),
        "l0": (codes > 0).double().sum(dim=1).mean(),
        "dead_share": (codes == 0).all(dim=0).double().mean(),
    }
    for name, value in expected.items():
        assert values[name] == pytest.approx(float(value), rel=1e-5, abs=1e-7), name
    assert evaluated(run, "eval.pictures=false", batch_size=40) == pytest.approx(values, rel=1e-5)
    stored = json.loads((run / "metrics.json").read_text())["test"]
    rates = stored["firing_rates"]
    assert rates.pop("rows") == len(x) == 40
    assert sum(rates.values()) == N
    assert rates["0"] == round(N * values["dead_share"])
    assert (run / "eval" / "firing_rates.png").is_file()  # of the first evaluation
    assert not (run / "eval" / "top_rows.html").exists()


def test_the_top_rows_are_a_page_and_a_table(run, caplog):
    caplog.set_level("INFO", "aecli")
    evaluated(run, "eval.top_rows=4", "eval.latents=[3,17]", "eval.pictures=false")
    assert re.search(r"written: .*top_rows\.html", caplog.text)
    loaded = load(*find(str(run)))
    split = loaded.data.splits["test"]
    z = loaded.model.encode(loaded.card.scaled(split.values))
    with (run / "eval" / "top_rows.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    texts = ["zero", HOSTILE, r"\x1b[31m\ud800", r"three\n", "⟨4⟩"]
    for latent in (3, 17):
        own = [line for line in lines if line["latent"] == str(latent)]
        values, places = z[:, latent].sort(descending=True, stable=True)
        count = min(4, int((values > 0).sum()))
        assert [float(line["activation"]) for line in own] == pytest.approx(values[:count].tolist())
        rows = split.rows[places[:count]].tolist()
        assert [line["row"] for line in own] == list(map(str, rows))
        for line, row in zip(own, rows, strict=True):
            assert line["file"] == "x.npy"
            assert line["token"] == texts[row % 5]
            before = "".join(texts[r % 5] for r in range(row - row % 10, row))
            after = "".join(texts[r % 5] for r in range(row + 1, row - row % 10 + 10))
            assert (line["before"].lstrip("'"), line["after"].lstrip("'")) == (before, after)
    page = (run / "eval" / "top_rows.html").read_text(encoding="utf-8")
    assert "Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-" in page
    assert "<script" not in page
    assert "&lt;script&gt;alert(" in page
    assert "\x1b" not in page
    assert not re.search(r"https?:|src=|url\(|@import| style=| on\w+=", page)
    for number in (3, 17):
        assert f'<h2 id="latent-{number}">' in page
    assert '<h1 id="all">' in page
    assert page.count('<a href="#all">all latents</a>') == 2
    told = re.findall(r'<svg [^>]*role="img" aria-label="([^"]+)">', page)
    assert len(told) == page.count("<svg") == 3
    assert re.match(r"0: 0; below 1e-6: 0; .*; 0\.1 to 1: \d+$", told[0])
    assert sum(int(count) for count in re.findall(r": (\d+)", told[0])) == N
    fullest = r"Histogram with \d+ bins: the fullest is \S+ to \S+, with \d+ rows"
    assert all(re.fullmatch(fullest, text) for text in told[1:])


def test_without_named_latents_there_are_ten_and_without_tokens_no_text(run, tmp_path):
    tokens = run.parent / "x.tokens.npy"
    hidden = tokens.rename(run.parent / "hidden")
    try:
        evaluated(run, "eval.top_rows=2", "eval.pictures=false")
    finally:
        hidden.rename(tokens)
    with (run / "eval" / "top_rows.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len({line["latent"] for line in lines}) == 10
    assert {line["token"] for line in lines} == {""}
    assert {line["file"] for line in lines} == {"x.npy"}


def broken_tokens(folder):
    np.save(folder / "x.tokens.npy", np.zeros((ROWS - 1, 2), np.int32))


def tokens_cut_off(folder):
    path = folder / "x.tokens.npy"
    path.write_bytes(path.read_bytes()[:-4])


def no_tokens(folder):
    (folder / "x.tokens.npy").write_text("no array")


def no_list(folder):
    (folder / "vocabulary.json").write_text('{"0": "zero"}')


def no_json(folder):
    (folder / "vocabulary.json").write_text("[" * 100_000)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (broken_tokens, r"x\.tokens\.npy: holds int32 of shape \(399, 2\); must be .*\(400, 2\)"),
        (tokens_cut_off, r"x\.tokens\.npy: holds int32"),
        (no_tokens, r"x\.tokens\.npy: damaged"),
        (no_list, r"vocabulary\.json: must be a list of texts"),
        (no_json, r"vocabulary\.json: damaged"),
    ],
)
def test_tokens_that_do_not_go_with_the_rows_are_refused_before_the_work(
    run, tmp_path, damage, message, monkeypatch
):
    kept = {name: (run.parent / name).read_bytes() for name in ("x.tokens.npy", "vocabulary.json")}
    monkeypatch.setattr("aecli.evaluation.metrics.reconstruction", None)
    try:
        damage(run.parent)
        with pytest.raises(SettingError, match=message):
            evaluated(run, "eval.top_rows=2")
    finally:
        for name, content in kept.items():
            (run.parent / name).write_bytes(content)


def test_another_model_has_no_latents_to_show(tmp_path):
    config, choices = configure("trainer=debug", "model=ae", "pictures_every=0")
    train(config, tmp_path / "run", choices)
    (tmp_path / "run" / ".hydra").mkdir(exist_ok=True)
    answer = aecli("eval", "run=run", "eval.top_rows=3", cwd=tmp_path)
    assert answer.returncode == 1
    assert "eval.top_rows=3: is for sparse dictionaries" in answer.stderr
    assert answer.stderr.count("\n") == 1
