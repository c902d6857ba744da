from concurrent.futures import ThreadPoolExecutor

from aecli.runs.paths import make_new, shown


def test_each_caller_gets_a_new_directory(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").touch()
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: make_new(tmp_path / "run"), range(20)))
    assert len(set(made)) == 20
    assert tmp_path / "run" not in made
    assert not any(list(path.iterdir()) for path in made)


def test_paths_are_shown_as_one_would_type_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown("outputs/a") == shown(tmp_path / "outputs" / "a") == "outputs/a"
    assert shown(tmp_path.parent / "b") == str(tmp_path.parent / "b")
