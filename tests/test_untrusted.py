import json
import random
import socket
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from aecli.errors import SettingError
from aecli.untrusted import DATA, MOST_NODES, check_tree, read_bytes, read_json, read_yaml, resolved
from tests.conftest import DICTIONARIES, configure
from tests.hostile import STRANGE, bounded, is_one_plain_line, put, refusal

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)
YAML_BOMBS = {
    "a billion laughs": LAUGHS,
    "a circle": "a: &a [*a]",
    "an alias as a key": "a: &a x\n*a : 1",
    "a merge of aliases": "a: &a {b: 1}\nc: {<<: *a}",
    "wide": "[" + "1," * 120_000 + "]",
    "wide and empty": "[" + "{}," * 80_000 + "]",
    "deep": "[" * 900 + "]" * 900,
    "deeper than the parser goes": "[" * 100_000,
    "large": "a" * 2**19,
    "a long value": f"a: {'b' * 20_000}",
    "a long key": f"? {'b' * 20_000}\n: 1",
    "a long number": f"a: {'1' * 4000}",
    "a number in base 60": f"a: {'1:' * 131_000}1",
    "an object": "!!python/object/apply:os.system ['true']",
    "a name": "a: !!python/name:os.system",
    "bytes": "a: !!binary aGVsbG8=",
    "a set": "a: !!set {b, c}",
    "a list as a key": "[1, 2]: 3",
    "a number as a key": "1: 2",
    "a lone surrogate": 'a: "\\ud800"',
    "a control character": "a: \x00",
    "another character set": "a: ".encode("utf-16").decode("latin-1"),
    "two documents": "a: 1\n---\nb: 2",
    "nothing closed": "{a: [1",
}
JSON_BOMBS = {
    "deep": "[" * 100_000,
    "deep and closed": "[" * 900 + "]" * 900,
    "wide": "[" + "1," * 400_000 + "1]",
    "large": "[" + " " * 2**21 + "]",
    "a large number": f'{{"a": {10**400}}}',
    "a long number": "1" * 10_000,
    "a lone surrogate": '{"a": "\\ud800"}',
    "a lone surrogate as a key": '{"\\udfff": 1}',
    "a long text": json.dumps({"a": "b" * 20_000}),
    "nothing": "",
    "half": '{"a": [1, 2',
}


@pytest.mark.parametrize(
    ("read", "text"),
    [
        *(pytest.param(read_yaml, text, id=f"YAML, {name}") for name, text in YAML_BOMBS.items()),
        *(pytest.param(read_json, text, id=f"JSON, {name}") for name, text in JSON_BOMBS.items()),
    ],
)
def test_a_bomb_is_refused_at_once(tmp_path, read, text):
    path = tmp_path / "file"
    path.write_text(text)
    with bounded(seconds=1), pytest.raises(SettingError, match="file: ") as refused:
        read(path)
    assert is_one_plain_line(refused.value)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "socket", "loop", "below a file"])
def test_only_regular_files_are_read(tmp_path, monkeypatch, kind):
    path = tmp_path / "file"
    if kind == "below a file":
        path.touch()
        path = path / "file"
    elif kind != "socket":
        put(path, kind)
    else:
        monkeypatch.chdir(tmp_path)  # the path of a socket has to be short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    with bounded(), pytest.raises(SettingError, match=f"{path}: (is no|cannot be read)") as refused:
        read_bytes(path)
    assert is_one_plain_line(refused.value)


def test_what_is_not_there_is_no_mistake_of_a_file(tmp_path):
    (tmp_path / "link").symlink_to("gone")
    for name in ("nothing", "link", "nothing/below"):
        with pytest.raises(FileNotFoundError):
            read_bytes(tmp_path / name)


@pytest.mark.parametrize("seed", range(200))
def test_whatever_text_is_read_or_refused(tmp_path, seed):
    generator = random.Random(seed)
    text = list("a: {b: [1, 2.5, null, 'x'], c: true}\nd: ${a.b}\n")
    for _ in range(generator.randrange(1, 6)):
        place = generator.randrange(len(text))
        text[place] = generator.choice('{}[]&*!|>%@`"\\#:-? \n\t\x00\x1b\u2028é')
    for name, reader in (("a.yaml", read_yaml), ("a.json", read_json)):
        (tmp_path / name).write_text("".join(text))
        refusal(reader, tmp_path / name)


def test_dates_stay_texts(tmp_path):
    (tmp_path / "a.yaml").write_text("a: 2020-01-01\nb: 0.5\nc: yes")
    assert read_yaml(tmp_path / "a.yaml") == {"a": "2020-01-01", "b": 0.5, "c": True}


def test_what_yaml_writes_is_read(tmp_path):
    tree = {"a": [1, -2.5, None, True, "x"], "b": {"c": 1e-9, "d": "é"}, "e": []}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(tree))
    assert read_yaml(tmp_path / "a.yaml") == tree


def test_a_tree_that_shares_its_parts_is_counted_as_what_it_unfolds_to():
    tree: list = []
    for _ in range(30):
        tree = [tree, tree]
    with bounded(), pytest.raises(SettingError, match=f"more than {MOST_NODES:,} values"):
        check_tree(tree, "a")
    circle: list = []
    circle.append(circle)
    with bounded(), pytest.raises(SettingError, match="nested deeper"):
        check_tree(circle, "a")


@pytest.mark.parametrize("value", STRANGE, ids=lambda v: repr(v)[:20].encode("unicode_escape"))
def test_a_tree_holds_plain_values_only(value):
    plain = value is None or isinstance(value, bool | float | str | list | dict | tuple)
    small = isinstance(value, int) and value.bit_length() <= 64
    if (plain or small) and value != "\ud800":
        check_tree({"a": value}, "x")
    else:
        with pytest.raises(SettingError, match="x: has a"):
            check_tree({"a": value}, "x")


def test_interpolations_of_a_file_are_followed_within_it():
    tree = {"a": {"b": [1, "${c}"]}, "c": 3, "d": "${a}", "e": "${a.b}"}
    assert resolved(tree, "x")["d"] == {"b": [1, 3]}
    assert resolved(tree, "x")["e"] == [1, 3]


def test_the_folder_of_the_data_is_the_one_variable_that_a_file_may_name(monkeypatch):
    conf = Path(__file__).parents[1] / "conf" / "dataset"
    named = {line for path in conf.glob("*.yaml") for line in path.read_text().splitlines()}
    (line,) = {line.strip() for line in named if "${oc" in line}
    assert DATA in line
    monkeypatch.setenv("AECLI_DATA", "/data")
    assert resolved({"dataset": {"root": DATA}}, "x") == {"dataset": {"root": "/data"}}
    monkeypatch.delenv("AECLI_DATA")
    assert resolved({"dataset": {"root": DATA}}, "x") == {"dataset": {"root": None}}


@pytest.mark.parametrize("variant", DICTIONARIES)
@pytest.mark.parametrize("shape", [None, [24]])
def test_what_conf_says_of_a_dictionary_is_followed_in_a_file(variant, shape):
    config, _ = configure(f"model={variant}", "dataset=activations")
    config.dataset.target_shape = shape
    written = yaml.safe_load(OmegaConf.to_yaml(config))
    found = resolved(written, "x")
    whole = OmegaConf.to_container(config, resolve=True)
    for group in ("model", "optimizer", "dataset"):
        assert found[group] == whole[group]


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:HOME}",
        "${oc.select:dataset.root,null}",
        "${dictionary_lr:${a}}",
        "${oc.env:AECLI_DATA,${oc.env:HOME}}",
        "${oc.decode:'[1]'}",
        "${${a}:HOME}",
        "${a}${a}",
        "${.a}",
        "${b}",
        "${a.b.c}",
        "${missing}",
        "x ${a}",
        "${hydra:runtime.cwd}",
        "${ oc.env: HOME }",
        "\\${a}",
        "${",
    ],
)
def test_no_other_interpolation_of_a_file_is_followed(value):
    with pytest.raises(SettingError, match="x: "):
        resolved({"a": 1, "b": value}, "x")


def test_interpolations_do_not_unfold_without_end():
    tree = {f"a{i}": [f"${{a{i + 1}}}"] * 9 for i in range(9)} | {"a9": 1}
    with bounded(), pytest.raises(SettingError, match="unfold too far"):
        resolved(tree, "x")
