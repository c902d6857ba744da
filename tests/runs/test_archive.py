"""Checkpoint files as a stranger, or a failing disk, may make them."""

import random
import zipfile
from collections import Counter

import pytest
import torch

from aecli.errors import SettingError
from aecli.runs.archive import CHECKSUM, load_archive, verify_entries
from aecli.runs.checkpoint import AtomicCheckpointIO, read
from aecli.runs.checksum import checksum
from tests.hostile import bounded, put, refusal

FLIPS = 400


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.fixture(scope="module", params=["of aecli", "of a script"])
def whole(request, tmp_path_factory):
    """Return a checkpoint's contents and bytes: some weights, a lot of structure.

    That of a script has no checksum but those of the archive's entries.
    """
    contents = {
        "state_dict": {f"layer.{i}": torch.randn(7, i + 1) for i in range(12)},
        "numbers": [torch.arange(5), torch.zeros(3, dtype=torch.uint8), torch.ones(2).double()],
        "aecli": {"config": {"a": [1, 2.5, None, True, "x"]}, "version": "1"},
    }
    path = tmp_path_factory.mktemp("whole") / "a.ckpt"
    if request.param == "of aecli":
        AtomicCheckpointIO().save_checkpoint(contents, path)
    else:
        torch.save(contents, path)
    return contents, path.read_bytes()


def refused(path, reader=load_archive):
    """Return whether a checkpoint is refused, as it has to be: at once, by one plain line."""
    with bounded():
        reason = refusal(reader, path)
    assert reason is None or path.name in reason
    return reason is not None


def test_a_flipped_bit_never_changes_what_is_loaded(tmp_path, whole):
    contents, data = whole
    generator, held = random.Random(0), Counter()
    path = tmp_path / "a.ckpt"
    for bit in generator.sample(range(8 * len(data)), FLIPS):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(flipped)
        if refused(path):
            held["refused"] += 1
        else:  # a bit of the padding between the entries
            assert same(load_archive(path), contents)
            held["unchanged"] += 1
    assert held["refused"] > 0


def test_a_flipped_bit_of_the_weights_is_always_found(tmp_path, whole):
    contents, data = whole
    start = data.index(contents["state_dict"]["layer.11"].numpy().tobytes())
    path = tmp_path / "a.ckpt"
    for bit in random.Random(1).sample(range(8 * 7 * 12 * 4), 100):
        flipped = bytearray(data)
        flipped[start + bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(flipped)
        with pytest.raises(SettingError, match="checksum"):
            load_archive(path)


@pytest.mark.parametrize("seed", range(60))
def test_a_file_that_is_cut_off_or_overwritten_is_refused(tmp_path, whole, seed):
    contents, data = whole
    generator, path = random.Random(seed), tmp_path / "a.ckpt"
    start, length = generator.randrange(len(data)), generator.randrange(1, 2000)
    path.write_bytes(
        generator.choice(
            [
                data[:start],
                data[start:],
                data[:start] + data[start + length :],
                data[:start] + generator.randbytes(length) + data[start:],
                data[:start] + bytes(length) + data[start + length :],
                data + generator.randbytes(length),
            ]
        )
    )
    assert refused(path) or same(load_archive(path), contents)


def rewritten(data, path, change, compression=zipfile.ZIP_STORED):
    """Write an archive anew, each entry as `change(name, bytes)` returns it; None leaves it out."""
    source = path.with_suffix(".source")
    source.write_bytes(data)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", compression) as new:
        for entry in old.infolist():
            if (content := change(entry.filename, old.read(entry))) is not None:
                new.writestr(entry.filename, content)
    source.unlink()
    return path


def pickled(body):
    """Return a change of an archive that puts `body` for its pickle."""
    return lambda name, content: body if name.endswith("data.pkl") else content


BIG = (10**9).to_bytes(4, "little")
DOUBLED = b")" + 60 * b"q\x01h\x01\x86"
"""A tuple of twice a tuple of twice a tuple, and so on: 2⁶⁰ parts."""
PICKLES = {
    "a key that takes for ever to hash": b"\x80\x02}" + DOUBLED + b"K\x00s.",
    "keys in a call": b"\x80\x02ccollections\nOrderedDict\n]" + DOUBLED + b"K\x00\x86a\x85R.",
    "a tensor's name that takes for ever": b"\x80\x02" + DOUBLED + b"Q.",
    "lists that hold each other": b"\x80\x02]q\x01]q\x02h\x01ah\x01h\x02a.",
    "a list that grows behind": b"\x80\x02" + b"]q\x00]q\x01aa" * 3 + b".",
    "a deep tuple": b"\x80\x02)" + 10**5 * b"\x85" + b".",
    "too little on the stack": b"\x80\x02)\x86.",
    "a mark where a part is": b"\x80\x02]((a.",
    "a part of what holds none": b"\x80\x02K\x01K\x02a.",
    "memory without end": b"\x80\x02c__builtin__\nbytearray\nJ" + BIG + b"\x85R.",
    "a call": b"\x80\x02cos\nmkdir\nX\x03\x00\x00\x00ran\x85R.",
    "a call by another opcode": b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93X\x03\x00\x00\x00ran\x85R.",
    "an instance": b"\x80\x02(ios\nmkdir\n.",
    "an index without end": b"\x80\x02}r\xff\xff\xff\x7f.",
    "a string without end": b"\x80\x02X\xff\xff\xff\x7fa.",
    "half a million dicts": b"\x80\x02]" + b"}a" * 500_000 + b".",
    "a million and more": b"\x80\x02(" + b"}" * (1 << 21) + b"l.",
    "a deep list": b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
    "nothing": b"",
    "no end": b"\x80\x02}",
    "no pickle": b"hello",
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_that_is_a_trap_is_refused(tmp_path, whole, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(rewritten(whole[1], tmp_path / "a.ckpt", pickled(PICKLES[name])), read)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize("kind", ["shape", "storage"])
def test_a_tensor_that_is_larger_than_its_bytes_is_refused(tmp_path, whole, kind):
    def change(name, content):
        if not name.endswith("data.pkl"):
            return content
        shape = b"K\x07K\x0c\x86"  # (7, 12)
        assert shape in content
        content = content.replace(shape, b"J" + BIG + b"K\x0c\x86")
        return content.replace(b"K\x54t", b"J" + BIG + b"t") if kind == "storage" else content

    assert refused(rewritten(whole[1], tmp_path / "a.ckpt", change))


def test_a_zip_of_zeros_is_refused(tmp_path, whole):
    def zeros(name, content):
        return bytes(10**8) if name.endswith("data/0") else content

    path = tmp_path / "a.ckpt"
    assert refused(rewritten(whole[1], path, zeros, zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 10**6


def test_a_zip_of_many_entries_is_refused(tmp_path):
    path = tmp_path / "a.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        for number in range(40_000):
            archive.writestr(f"a/data/{number}", b"")
    assert refused(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_an_entry_twice_or_missing_is_refused(tmp_path, whole):
    path = rewritten(whole[1], tmp_path / "a.ckpt", lambda name, content: content)
    assert not refused(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(archive.namelist()[0], b"\x80\x02}.")
    assert refused(path)
    for gone in ("data.pkl", "data/0", "version"):
        keep = lambda name, content, gone=gone: None if name.endswith(gone) else content  # noqa: E731
        assert refused(rewritten(whole[1], path, keep))


def test_a_second_pickle_that_torch_would_find_is_refused(tmp_path, whole):
    path = rewritten(whole[1], tmp_path / "a.ckpt", lambda name, content: content)
    with zipfile.ZipFile(path, "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/DATA.PKL", PICKLES["memory without end"])
    assert refused(path)


def test_a_directory_that_readers_would_find_elsewhere_is_refused(tmp_path, whole):
    """As torch's reader follows the record's address, and Python's looks right before it."""
    path = tmp_path / "a.ckpt"
    body, end = whole[1][:-22], whole[1][-22:]
    assert end[:4] == b"PK\x05\x06"
    path.write_bytes(body + b"PK\x06\x07" + bytes(16) + end)
    assert "its directory is not where it says" in refusal(load_archive, path)
    path.write_bytes(body + end[:-2] + b"\x04\x00more")
    assert "no zip archive" in refusal(load_archive, path)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "missing", "loop"])
def test_a_special_file_is_refused(tmp_path, kind):
    path = tmp_path / "a.ckpt"
    put(path, kind)
    assert refused(path)


def test_a_checkpoint_of_today_is_verified(tmp_path, whole):
    path = tmp_path / "a.ckpt"
    path.write_bytes(whole[1])
    verify_entries(path)
    assert same(load_archive(path), whole[0])


SIZES = [(), (1,), (7,), (3, 0), (129, 64), (5, 4096), (40_000,)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8, torch.bool])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_the_checksum_depends_on_every_bit_of_a_tensor(dtype, shape):
    tensor = torch.randint(0, 2, shape).to(dtype)
    before = checksum({"a": tensor})
    assert checksum({"a": tensor.clone()}) == before
    data = tensor.reshape(-1).view(torch.uint8)
    generator = random.Random(0)
    for place in generator.sample(range(len(data)), min(20, len(data))):
        flipped = data.clone()
        flipped[place] ^= 1 << generator.randrange(8)
        assert checksum({"a": flipped.view(dtype).reshape(shape)}) != before


@pytest.mark.parametrize(
    "other",
    [{"b": 1}, {"a": 2}, {"a": 1.0}, {"a": True}, {"a": "1"}, {"a": [1]}, {"a": 1, "b": None}, {}],
    ids=str,
)
def test_the_checksum_depends_on_everything_else(other):
    assert checksum(other) != checksum({"a": 1})
    assert checksum([1, 2]) != checksum((1, 2))
    assert checksum({"a": torch.zeros(2)}) != checksum({"a": torch.zeros(2).double()})
    assert checksum({"a": torch.zeros(2, 3)}) != checksum({"a": torch.zeros(3, 2)})


def test_what_unfolds_is_not_summed(tmp_path):
    """Nor is it refused by its sum, which is wrong too."""
    tree: list = []
    for _ in range(40):
        tree = [tree, tree]
    storage = torch.zeros(10**6)
    for trap in (tree, [storage[:] for _ in range(3000)], storage[:1].expand(10**6, 10**6)):
        for summed in ({CHECKSUM: "0"}, {}):
            path = tmp_path / "a.ckpt"
            torch.save({"aecli": {}, "trap": trap, **summed}, path)
            with bounded():
                reason = refusal(load_archive, path)
            assert "more bytes than it has" in reason or "than any checkpoint" in reason
