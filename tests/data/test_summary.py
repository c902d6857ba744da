import numpy as np
import pandas as pd
import pytest

from aecli.data import summary as module
from aecli.data.records import Records
from aecli.data.summary import chosen, summary


@pytest.mark.parametrize("chunk", [1, 100, 1 << 20])
def test_an_array_in_any_pieces(chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", chunk)
    x = np.array([[1, 2, 5], [1, np.nan, 7], [1, 2, 5], [1, 9, -2], [1, 2, 5]], np.float32)
    found = summary(Records(x))
    assert (found.count, found.shape, found.kind) == (5, (3,), "float32")
    assert (found.low, found.high) == (-2, 9)
    assert found.mean == pytest.approx(np.nanmean(x))
    assert (found.missing, found.constant, found.duplicates) == (1, 1, 2)


def test_a_table_column_by_column():
    frame = pd.DataFrame(
        {"age": [1.0, None, 3.0, 3.0], "kind": ["a", "b", None, None], "same": [7, 7, 7, 7]}
    )
    found = summary(Records(frame))
    assert (found.count, found.shape, found.missing) == (4, (3,), 3)
    assert (found.constant, found.duplicates) == (1, 1)
    age, kind, same = found.columns
    assert (age.name, age.missing, age.distinct, age.low, age.high) == ("age", 1, 2, 1, 3)
    assert age.mean == pytest.approx(7 / 3)
    assert (kind.missing, kind.low, sorted(kind.commonest)) == (2, None, [("a", 1), ("b", 1)])
    assert (same.distinct, same.low) == (1, 7)


def test_examples_are_chosen_evenly():
    assert list(chosen(np.arange(101), 3)) == [0, 50, 100]
    assert len(chosen(pd.DataFrame({"a": range(5)}), 100)) == 5
