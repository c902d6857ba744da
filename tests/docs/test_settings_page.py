"""docs/settings.md is what conf/ and the docstrings say, and they explain every setting."""

from docs import settings
from docs.settings import COMMANDS, CONF, GROUPS, PAGE, page, read


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == page(), "run python docs/settings.py"


def test_every_group_and_command_is_there():
    folders = {path.name for path in CONF.iterdir() if path.is_dir() and any(path.glob("*.yaml"))}
    assert folders - {"hydra", "experiment"} == set(GROUPS)
    schemas = {path.stem for path in CONF.glob("*.yaml")}
    assert schemas - {"from_a_run", "parts", "schedule"} == set(COMMANDS)


def test_every_setting_is_explained():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert len(rows) > 200
    assert [row for row in rows if row.endswith("|  |")] == []


def test_a_file_is_read_with_its_comments(tmp_path):
    (path := tmp_path / "speckle.yaml").write_text(
        "# Speckles.\n#   aecli train noise=speckle\n"
        "defaults:\n  - masking\n  - override /sparsity: l1\n"
        "_target_: aecli.noise.Speckle\nstd: 0.3   # how much,\n           # of one\n"
        "features: ${dataset.features}\nmore:\n  deep: [1, 2]\n"
    )
    option = read(path, "noise.")
    assert option.meaning == "Speckles.\n\n```text\naecli train noise=speckle\n```"
    assert (option.bases, option.choices) == (["masking"], ["sparsity=l1"])
    assert option.target == "aecli.noise.Speckle"
    assert option.settings == [
        ("noise.std", "0.3", "how much, of one"),
        ("noise.more.deep", "[1, 2]", ""),
    ]


def test_what_has_no_comment_is_explained_by_the_class():
    _, arguments = settings.documented("aecli.models.IWAE")
    assert arguments["samples"] == "k ≥ 1."  # its own
    assert arguments["beta"].startswith("β ≥ 0")  # of VAE
    assert arguments["code_dim"] == "K."  # of Autoencoder
