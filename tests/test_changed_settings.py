"""Every setting of a training changes what comes out of it, or is listed with the reason.

In a file of its own, so that another worker runs it than `test_settings.py`.
"""

import pytest

from tests.test_settings import (
    CONTEXT,
    NO_NUMBERS,
    READ_ELSEWHERE,
    SETTINGS,
    another,
    outcome,
)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    """Keep what is decoded away from the user's cache."""
    monkeypatch.setattr("aecli.data.picture_cache.data_root", lambda root: tmp_path / "cache")


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [s for s in SETTINGS if s.key not in NO_NUMBERS and s.option not in READ_ELSEWHERE],
    ids=lambda s: f"{s.option or 'root'}-{s.key}",
)
def test_a_setting_changes_what_comes_out(setting, tmp_path):
    context = CONTEXT.get(setting.key, ([], ""))[0]
    replaced = {word.partition("=")[0] for word in context}
    words = [w for w in setting.around if w.partition("=")[0] not in replaced] + context
    before = outcome(words, tmp_path / "before")
    words = [word for word in words if not word.startswith(f"{setting.key}=")]
    value = another(setting, words, tmp_path)
    assert outcome([*words, f"{setting.key}={value}"], tmp_path / "after") != before, value
