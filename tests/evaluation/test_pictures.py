"""What the pictures of `aecli eval` say of what they show."""

import pytest
import torch

from aecli import figures
from aecli.evaluation.pictures import drawn
from tests.explore.made import loaded


@pytest.mark.parametrize(("count", "told"), [(1, "a test example"), (40, "16 test examples")])
def test_titles_count_the_examples(tmp_path, monkeypatch, count, told):
    titles = {}

    def keep(name, place):
        figure = getattr(figures, name)

        def drawing(*arguments):
            titles[name] = arguments[place]
            return figure(*arguments)

        monkeypatch.setattr(figures, name, drawing)

    keep("labelled_rows", 1)
    keep("activations", 3)
    torch.manual_seed(0)
    run = loaded(tmp_path, "model=ae", f"dataset.test_size={count}")
    drawn(run, "masking", [0.5])
    assert titles == {
        "labelled_rows": f"ae on digits: {told}, and what the model makes of them",
        "activations": f"ae on digits: the codes of {told}, a row each",
    }
