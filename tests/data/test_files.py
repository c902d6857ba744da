"""Files are found where people keep them, and downloaded whole or not at all."""

import gzip
import hashlib
import logging
import re
import resource
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from aecli.data.files import data_root, fetch, find
from aecli.errors import SettingError

CONTENT = {
    f"{part}.gz": gzip.compress(part.encode() * 400, mtime=0)
    for part in ("train-images", "train-labels", "t10k-images", "t10k-labels")
}
SHA256 = {file: hashlib.sha256(data).hexdigest() for file, data in CONTENT.items()}
FIRST = next(iter(CONTENT))


def fill(place, files=CONTENT, packed=True):
    place.mkdir(parents=True, exist_ok=True)
    for file in files:
        data = CONTENT[file]
        path = place / (file if packed else file.removesuffix(".gz"))
        path.write_bytes(data if packed else gzip.decompress(data))


def found(root):
    return find("mnist", "MNIST", SHA256, str(root))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("place", ["mnist", "MNIST/raw", "."])
def test_find(tmp_path, place, packed, caplog):
    fill(tmp_path / place, packed=packed)
    suffix = ".gz" if packed else ""
    assert found(tmp_path) == {
        file: tmp_path / place / (file.removesuffix(".gz") + suffix) for file in CONTENT
    }
    assert not caplog.records


def test_find_mixed_and_in_order(tmp_path):
    fill(tmp_path)
    fill(tmp_path / "mnist", list(CONTENT)[:2])
    fill(tmp_path / "mnist", list(CONTENT)[2:], packed=False)
    paths = found(tmp_path)
    assert {path.parent for path in paths.values()} == {tmp_path / "mnist"}
    assert [path.suffix for path in paths.values()] == [".gz", ".gz", "", ""]


def test_find_nothing(tmp_path):
    assert found(tmp_path) is None


def test_find_refuses_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(SettingError, match="not_here: no such folder"):
        found(tmp_path / "not_here")


def test_find_default_root(tmp_path, monkeypatch):
    monkeypatch.setattr("aecli.data.files.user_cache_dir", lambda name: str(tmp_path / name))
    assert data_root(None) == tmp_path / "aecli"
    fill(tmp_path / "aecli" / "mnist")
    assert find("mnist", "MNIST", SHA256, None)[FIRST] == tmp_path / "aecli" / "mnist" / FIRST


def test_root_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path / "data")
    assert found("~/data")[FIRST] == tmp_path / "data" / FIRST


@pytest.mark.parametrize("place", ["MNIST/raw", "."])
def test_find_some(tmp_path, place):
    fill(tmp_path / place, list(CONTENT)[:3])
    with pytest.raises(SettingError, match=r"^dataset\.root=.* lacks t10k-labels\.gz$") as info:
        found(tmp_path)
    assert str(tmp_path / place) in str(info.value)


def test_half_filled_cache_is_left_to_fetch(tmp_path):
    fill(tmp_path / "mnist", [FIRST])
    assert found(tmp_path) is None


@pytest.mark.parametrize("picture", ["7.png", "mnist/7.png", "mnist/7/0.JPEG"])
def test_find_pictures(tmp_path, picture):
    path = tmp_path / picture
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with pytest.raises(SettingError, match=r"^dataset\.root=") as info:
        found(tmp_path)
    for part in (str(tmp_path), path.name, FIRST):
        assert part in str(info.value)


def test_find_leaves_pictures_of_others_alone(tmp_path):
    (tmp_path / "celeba").mkdir()
    (tmp_path / "celeba" / "1.jpg").touch()
    assert found(tmp_path) is None


def test_find_refuses_what_may_be_another_data_set(tmp_path):
    fill(tmp_path)
    (tmp_path / FIRST).write_bytes(gzip.compress(b"kmnist"))
    with pytest.raises(SettingError, match="is not the file published as mnist"):
        found(tmp_path)


def test_find_other_content(tmp_path, caplog):
    fill(tmp_path / "mnist")
    path = tmp_path / "mnist" / FIRST
    path.write_bytes(gzip.compress(b"my own"))
    assert found(tmp_path)[FIRST] == path
    [record] = caplog.records
    assert (record.name, record.levelno) == ("aecli.data.files", logging.WARNING)
    assert str(path) in record.getMessage()


@pytest.fixture
def web(monkeypatch):
    """A web server with the mirrors /good, /cut, /wrong and /silent, and the paths asked for."""
    asked, end = [], threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            time.sleep(0.02)  # so that two runs do overlap
            _, mirror, file = self.path.split("/")
            if mirror == "silent":
                end.wait()
                return
            if mirror not in ("good", "cut", "wrong"):
                self.send_error(404)
                return
            data = CONTENT[file]
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            body = {"good": data, "cut": data[: len(data) // 2], "wrong": bytes(len(data))}
            self.wfile.write(body[mirror])

        def log_message(self, *args):
            pass

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        yield SimpleNamespace(url=url, asked=asked)
        end.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def down():
    """The address of a server that is down."""
    with socket.socket() as closed:  # bound, so that nobody else takes the port, but not listening
        closed.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{closed.getsockname()[1]}"


def names(place):
    return {path.name for path in place.iterdir()} - {".lock"}


def test_fetch(tmp_path, web):
    root = tmp_path / "new"
    paths = fetch("mnist", SHA256, [f"{web.url}/good/"], str(root))
    assert paths == {file: root / "mnist" / file for file in CONTENT}
    assert {file: path.read_bytes() for file, path in paths.items()} == CONTENT
    assert web.asked == [f"/good/{file}" for file in CONTENT]
    assert names(root / "mnist") == set(CONTENT)
    assert fetch("mnist", SHA256, [f"{web.url}/good"], str(root)) == paths == found(root)
    assert len(web.asked) == len(CONTENT)


def test_fetch_completes(tmp_path, web):
    fill(tmp_path / "mnist", list(CONTENT)[1:], packed=False)
    paths = fetch("mnist", SHA256, [f"{web.url}/good"], str(tmp_path))
    assert web.asked == [f"/good/{FIRST}"]
    assert all(path.is_file() for path in paths.values())


@pytest.mark.parametrize("first", ["cut", "wrong", "missing", None])
def test_fetch_falls_over(tmp_path, web, down, first):
    bad = f"{web.url}/{first}" if first else down
    paths = fetch("mnist", SHA256, [bad, f"{web.url}/good"], str(tmp_path))
    assert {file: path.read_bytes() for file, path in paths.items()} == CONTENT
    assert names(tmp_path / "mnist") == set(CONTENT)
    if first:
        assert web.asked[:2] == [f"/{first}/{FIRST}", f"/good/{FIRST}"]


def test_fetch_leaves_a_silent_mirror(tmp_path, web, monkeypatch):
    monkeypatch.setattr("aecli.data.files.TIMEOUT", 0.5)
    mirrors = [f"{web.url}/silent", f"{web.url}/good"]
    start = time.monotonic()
    fetch("mnist", {FIRST: SHA256[FIRST]}, mirrors, str(tmp_path))
    assert time.monotonic() - start < 10  # pooch's own patience is 30 seconds
    assert web.asked == [f"/silent/{FIRST}", f"/good/{FIRST}"]


def test_fetch_all_down(tmp_path, web, down):
    mirrors = [f"{web.url}/{mirror}" for mirror in ("cut", "wrong", "missing")] + [down]
    with pytest.raises(SettingError) as info:
        fetch("mnist", SHA256, mirrors, str(tmp_path))
    lines = str(info.value).splitlines()
    for mirror, reason in zip(mirrors, ["", "SHA-256", "404", "Connection"], strict=True):
        [line] = [line for line in lines if f"{mirror}/{FIRST}: " in line]
        assert reason in line
    assert lines[0].startswith(f"dataset=mnist: {FIRST} ")
    assert str(tmp_path / "mnist") in lines[-1]
    assert "dataset.root" in lines[-1]
    assert "dataset=digits needs none" in lines[-1]
    assert names(tmp_path / "mnist") == set()


@pytest.mark.parametrize("mirror", ["missing", "hashes"])
def test_fetch_blames_the_sum_only_if_wrong(tmp_path, web, mirror):
    with pytest.raises(SettingError) as info:
        fetch("mnist", SHA256, [f"{web.url}/{mirror}"], str(tmp_path))
    assert "SHA-256" not in str(info.value)


def test_fetch_keeps_what_came(tmp_path, web):
    sha256 = SHA256 | {"t10k-labels.gz": "0" * 64}
    with pytest.raises(SettingError, match=r"t10k-labels\.gz could not be downloaded"):
        fetch("mnist", sha256, [f"{web.url}/good"], str(tmp_path))
    assert names(tmp_path / "mnist") == set(CONTENT) - {"t10k-labels.gz"}


@pytest.mark.parametrize("message", ["", "refused\nand more"])
def test_fetch_any_error(tmp_path, monkeypatch, message):
    def fail(*args, **kwargs):
        raise TimeoutError(message)

    monkeypatch.setattr("pooch.retrieve", fail)
    with pytest.raises(SettingError, match=r"http://a/train-images\.gz: TimeoutError"):
        fetch("mnist", SHA256, ["http://a"], str(tmp_path))


def test_fetch_onto_a_full_disk(tmp_path, web):
    """It says so, and asks no other mirror."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
        with pytest.raises(SettingError) as info:
            fetch("mnist", SHA256, [f"{web.url}/{name}" for name in ("wrong", "good")], tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    told = f"dataset.root={tmp_path}: cannot be written (File too large)"
    assert str(info.value) == told
    assert len(web.asked) == 1
    assert names(tmp_path / "mnist") == set()


def test_fetch_into_a_file(tmp_path):
    root = tmp_path / "file"
    root.touch()
    with pytest.raises(SettingError, match=re.escape(f"dataset.root={root}: cannot be written")):
        fetch("mnist", SHA256, [], str(root))


def test_two_runs_at_once(tmp_path, web):
    # Threads stand for processes: the lock is on an open file, and each run opens its own.
    start = threading.Barrier(2)

    def run(_):
        start.wait()
        return fetch("mnist", SHA256, [f"{web.url}/good"], str(tmp_path))

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(run, range(2))
    assert one == two == found(tmp_path)
    assert sorted(web.asked) == sorted(f"/good/{file}" for file in CONTENT)
