import pytest

from aecli.config import label


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], ""),
        (["model=vae"], ""),
        (["noise.amount=0.3", "model=ae", "seed=1"], "_noise.amount-0.3_seed-1"),
        (["network.hidden=[1000,500]"], "_network.hidden-1000-500"),
        (["dataset.root=/a/b", "output_dir=x", "+trainer.x=a b/c"], "_+trainer.x-a-b-c"),
    ],
)
def test_label_says_what_was_set_in_characters_that_need_no_quotes(overrides, expected):
    assert label(overrides, "model") == expected


def test_a_long_line_still_gives_a_name_that_a_file_system_takes(tmp_path):
    name = label([f"network.hidden=[{','.join(['100'] * 200)}]"], "model")
    assert name.startswith("_network.hidden-100-100-")
    (tmp_path / f"2026-01-01_00-00-00{name}-2").mkdir()
