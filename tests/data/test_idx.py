"""An IDX file is read whole, or refused by name."""

import gzip
import random
import re
import struct

import numpy as np
import pytest

from aecli.data.idx import read_idx
from aecli.errors import SettingError
from tests.hostile import bounded, refusal


def header(*shape, kind=0x08):
    return struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape)


GOOD = header(3, 4, 5) + bytes(range(60))
PACKED = gzip.compress(GOOD)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)


@pytest.mark.parametrize("name", ["a-idx.gz", "a-idx"])
@pytest.mark.parametrize("shape", [(300,), (3, 4, 5), (0, 4, 5)])  # 300: more than one byte
def test_round_trip(tmp_path, shape, name):
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    data = header(*shape) + array.tobytes()
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    read = read_idx(path)
    assert read.dtype == np.uint8
    assert read.flags.writeable  # torch.from_numpy warns otherwise
    np.testing.assert_array_equal(read, array)


BAD = {
    "gzip cut in its data": ("a.gz", PACKED[: len(PACKED) // 2]),
    "gzip cut in its checksum": ("a.gz", PACKED[:-2]),
    "gzip cut in its header": ("a.gz", PACKED[:5]),
    "gzip damaged": ("a.gz", PACKED[:10] + b"\xff" * 8 + PACKED[18:]),
    "gzip of half a file": ("a.gz", gzip.compress(GOOD[:-30])),
    "not gzipped": ("a.gz", GOOD),
    "plain but gzipped": ("a", PACKED),
    "plain cut in its data": ("a", GOOD[:-1]),
    "plain cut after a size": ("a", GOOD[:12]),
    "plain cut within a size": ("a", GOOD[:10]),
    "plain cut after the magic": ("a", GOOD[:4]),
    "plain cut in the magic": ("a", GOOD[:3]),
    "picture": ("a", PNG),
    "picture called gz": ("a.gz", PNG),
    "picture gzipped": ("a.gz", gzip.compress(PNG)),
    "web page": ("a.gz", b"<html>404</html>"),
    "empty": ("a", b""),
    "empty gz": ("a.gz", b""),
    "signed bytes": ("a", header(3, kind=0x09) + bytes(3)),
    "floats": ("a", header(2, kind=0x0D) + bytes(8)),
    "shape too large": ("a", header(3, 4, 6) + bytes(60)),
    "shape too small": ("a", header(3, 4, 4) + bytes(60)),
    "shape beyond 64 bits": ("a", header(*[2**32 - 1] * 3) + bytes(60)),
    "too many dimensions": ("a", header(*[1] * 100) + bytes(1)),
    "missing": ("a", None),
}


@pytest.mark.parametrize(("name", "content"), BAD.values(), ids=BAD)
def test_refused(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingError, match=re.escape(str(path))):
        read_idx(path)


@pytest.mark.parametrize("seed", range(200))
def test_a_made_up_file_is_refused_or_read(tmp_path, seed):
    """Sizes up to 2³² − 1, zeros among them, in files of any length."""
    generator = random.Random(seed)
    sizes = [0, 1, 2, 3, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1]
    shape = generator.choices(sizes, k=generator.randrange(5))
    data = header(*shape, kind=generator.choice([8, 8, 8, 9, 14]))
    data += bytes(generator.randrange(0, 600))
    path = tmp_path / generator.choice(["a-idx", "a-idx.gz"])
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    with bounded():
        reason = refusal(read_idx, path)
    assert reason is None or path.name in reason
    assert reason or read_idx(path).shape == tuple(shape)
