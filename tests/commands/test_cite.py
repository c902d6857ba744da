"""`aecli cite`: every option has its references, and every reference is complete."""

import re

import pytest
import yaml
from omegaconf import OmegaConf

from aecli.commands.cite import main, methods, references
from aecli.errors import SettingError
from tests.commands.made import make as make_finished
from tests.conftest import CONF, EXPERIMENTS, configure, options

GROUPS = {name: known for name, known in methods().items() if name != "settings"}
FIELDS = {"title", "author", "year"}
WHERE = {"doi", "eprint", "url", "howpublished", "booktitle", "journal"}


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_has_references_or_is_nobodys(group):
    assert set(GROUPS[group]) == set(options(group))


def test_no_group_of_parts_is_left_out():
    _, choices = configure()
    of_computing = {"trainer", "experiment", "launcher", "sweeper"}
    assert set(GROUPS) == set(choices) - of_computing


def test_every_reference_is_there_and_of_use():
    used = {
        key for known in methods().values() for values in known.values() for key in _keys(values)
    }
    papers = {name.partition("/")[0] for name in EXPERIMENTS}
    assert used | papers == set(references())


def _keys(values):
    return values if isinstance(values, list) else [key for keys in values.values() for key in keys]


@pytest.mark.parametrize("key", references())
def test_a_reference_is_complete(key):
    entry = references()[key]
    fields = dict(re.findall(r"^  (\w+) = \{(.*)\},?$", entry, flags=re.MULTILINE))
    assert fields.keys() >= FIELDS
    assert fields.keys() & WHERE
    assert fields["year"] == key[-4:] or key == "synthsaebench"  # known by its own name
    assert entry.count("{") == entry.count("}")
    if arxiv := fields.get("eprint"):
        assert re.fullmatch(r"\d{4}\.\d{4,5}", arxiv)
        assert int(arxiv[:2]) + 2000 <= int(fields["year"])


def test_settings_with_references_exist_and_so_do_their_values():
    files = [*CONF.glob("*.yaml"), *CONF.glob("[!eh]*/*.yaml")]
    for key, values in methods()["settings"].items():
        group, name = key.split(".")
        lines = [
            line
            for path in files
            if path.parent.name == group or path.parent == CONF
            for line in re.findall(rf"^ *{name}: .*\n(?: +#.*\n)*", path.read_text(), re.MULTILINE)
        ]
        assert lines, key
        for value in set(values) - {"*"}:
            assert any(str(value).lower() in line for line in lines) or value is True, (key, value)


def make(folder, name, *typed):
    """Write a finished run with the settings and the choices of a real one."""
    run = make_finished(folder, name, 1.0)
    config, choices = configure(*typed)
    (run / ".hydra" / "config.yaml").write_text(OmegaConf.to_yaml(config))
    (run / ".hydra" / "hydra.yaml").write_text(
        yaml.safe_dump({"hydra": {"runtime": {"choices": choices}}})
    )
    (run / "metrics.json").unlink()
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "best.ckpt").touch()
    return run


def cited(capsys, *words):
    main(words)
    lines = capsys.readouterr().out.splitlines()
    return [re.search(r"\{(\w+),", line)[1] for line in lines if line.startswith("@")], lines


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("model=vae", "kingma2013 kingma2014 alpaydin1998"),
        (
            "model=iwae model.gradient=dreg prior=vamp network.activation=gated dataset=mnist",
            "burda2015 tomczak2018 kingma2014 lecun1998 dauphin2017 tucker2018",
        ),
        ("model=pca dataset=kmnist", "pearson1901 bourlard1988 clanuwat2018"),
        (
            "experiment=hinton2006/deep_ae",
            "hinton2006 hinton2002 kingma2014 loshchilov2016 lecun1998",
        ),
        (
            "model=ae noise=gaussian sparsity=l1 optimizer=adamw trainer.average=0.99",
            "hinton2006 vincent2010 olshausen1996 loshchilov2017 alpaydin1998 polyak1992"
            " izmailov2018",
        ),
        ("model=vae model.beta=4 model.warmup_epochs=2", "kingma2013 higgins2017 bowman2015"),
    ],
)
def test_a_run_is_cited_by_what_it_is_made_of(typed, expected, tmp_path, capsys):
    run = make(tmp_path, "run", *typed.split())
    found, _ = cited(capsys, f"run={run}")
    assert set(expected.split()) <= set(found)
    often = {"salakhutdinov2008", "glorot2010", "ioffe2015", "kingma2014", "alpaydin1998"}
    assert set(found) - set(expected.split()) <= often
    assert len(found) == len(set(found))


def test_several_runs_are_cited_together_each_work_once(tmp_path, capsys):
    make(tmp_path / "sweep", "0", "model=dae")
    make(tmp_path / "sweep", "1", "model=vae", "model.beta=2")
    found, lines = cited(capsys, f"run={tmp_path / 'sweep'}")
    assert len(found) == len(set(found))
    assert "% model=dae, noise=masking" in lines
    assert "% model.beta=2.0" in lines or "% model.beta=2" in lines


def test_a_path_may_be_quoted_as_for_the_other_commands(tmp_path, capsys):
    run = make(tmp_path, "run, x=1", "model=ae")
    assert cited(capsys, f'run="{run}"') == cited(capsys, f"run={run}")


def test_a_part_of_somebody_elses_is_named(tmp_path, capsys):
    run = make(tmp_path, "run", "model=ae")
    path = run / ".hydra" / "hydra.yaml"
    path.write_text(path.read_text().replace("noise: none", 'noise: "blur\\e[2J"'))
    _, lines = cited(capsys, f"run={run}")
    assert lines[-1] == "% noise=blur\\x1b[2J: no part of aecli, cite its author"


def test_a_mistake_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make(tmp_path, "run", "model=ae")
    (run / ".hydra" / "hydra.yaml").write_text("{")
    for words, told in {
        ("outputs",): "outputs: type aecli cite run=outputs",
        ("model=vae",): "model=vae: aecli cite has one setting, run=RUN",
        ("run=nowhere",): "run=nowhere: no such file or directory",
        ("--all",): "unrecognized arguments: --all",
        (f"run={run}",): "hydra.yaml: damaged",
    }.items():
        with pytest.raises(SettingError, match=told):
            main(words)
