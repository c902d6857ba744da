import logging

from aecli import progress
from aecli.progress import Tracked


def test_a_long_loop_tells_where_it_is(monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="aecli")
    monkeypatch.setattr(logging.getLogger("aecli"), "propagate", True)
    monkeypatch.setattr(progress, "TRACKED_EVERY", 0.0)
    tracked = Tracked(range(3), "counting")
    seen = []
    for item in tracked:
        seen.append(item)
        tracked.note = f"at {item}"
    assert seen == [0, 1, 2]
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["counting", "  1/3  at 0  0 s", "  2/3  at 1  0 s", "  3/3  at 2  0 s"]


def test_a_short_loop_says_its_name_only(caplog, monkeypatch):
    caplog.set_level(logging.INFO, logger="aecli")
    monkeypatch.setattr(logging.getLogger("aecli"), "propagate", True)
    assert list(Tracked([4, 5], "short")) == [4, 5]
    assert [record.getMessage() for record in caplog.records] == ["short"]
