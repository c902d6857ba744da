import pytest

from aecli.config import NAME_LENGTH, label


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], ""),
        (["model=vae"], ""),
        (["noise.amount=0.3", "model=ae", "seed=1"], "_noise.amount-0.3_seed-1"),
        (["network.hidden=[1000,500]"], "_network.hidden-1000-500"),
        (["dataset.root=/a/b", "output_dir=x", "+trainer.x=a b/c"], "_+trainer.x-a-b-c"),
        (["seed=" + "1" * 300], ("_seed-" + "1" * 300)[:NAME_LENGTH]),
    ],
)
def test_label_says_what_was_set_in_characters_that_need_no_quotes(overrides, expected):
    assert label(overrides, "model") == expected
