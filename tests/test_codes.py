"""Files of codes: what `aecli encode` writes, and what others do."""

from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest

from aecli.codes import CodeFile
from aecli.errors import SettingError
from aecli.rows import new_rows
from tests.hostile import bounded

Z = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
IDS = np.array(["NA", "0.10", "1E5", *(f"{number:03}" for number in range(7))], object)


def read(path, key=None, size=4, units=3):
    pieces = list(CodeFile(path, units, size, key))
    assert all(len(piece.z) <= size for piece in pieces)
    return np.concatenate([p.ids for p in pieces]), np.concatenate([p.z for p in pieces])


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".npy", ".npz"])
def test_codes_read_back_as_they_were_written(ending, tmp_path):
    path = tmp_path / f"codes{ending}"
    with new_rows(path, 10, "z", False) as add:
        add({"id": IDS[:6], "split": "test", "z": Z[:6]})
        add({"id": IDS[6:], "split": "test", "z": Z[6:]})
    codes = CodeFile(path, 3, 4)
    assert (codes.count, len(codes)) == (10, 3)
    ids, z = read(path)
    np.testing.assert_array_equal(z, Z)
    assert z.dtype == np.float32
    assert list(ids) == (list(range(10)) if ending == ".npy" else list(IDS))


def test_columns_in_another_order_and_arrays_of_another_type_are_the_same(tmp_path):
    frame = pd.DataFrame({"z2": Z[:, 2], "other": 1, "z0": Z[:, 0], "z1": Z[:, 1]})
    frame.to_csv(tmp_path / "codes.csv", index=False)
    ids, z = read(tmp_path / "codes.csv")
    np.testing.assert_array_equal(z, Z)
    assert list(ids) == list(range(10))
    np.save(tmp_path / "codes.npy", Z.astype(np.float64))
    np.testing.assert_array_equal(read(tmp_path / "codes.npy")[1], Z)
    np.savez_compressed(tmp_path / "codes.npz", mine=Z.astype(np.float16))
    np.testing.assert_array_equal(read(tmp_path / "codes.npz", "mine")[1], Z.astype(np.float16))


def bad(folder):
    """Write files that hold no codes of 3 units; return what is said of each."""
    frame = pd.DataFrame({f"z{n}": Z[:, n] for n in range(3)})
    frame.drop(columns="z1").to_csv(folder / "lacking.csv", index=False)
    frame.assign(z3=0).to_csv(folder / "more.csv", index=False)
    frame.assign(z1="a").to_csv(folder / "text.csv", index=False)
    frame.assign(z1=[np.nan if row == 7 else 1 for row in range(10)]).to_parquet(
        folder / "n.parquet"
    )
    frame[:0].to_csv(folder / "none.csv", index=False)
    (folder / "empty.csv").touch()
    (folder / "latin.csv").write_bytes(b"z0,z1,z2,id\n1,2,3,\xe9\n")
    (folder / "ragged.csv").write_text("z0,z1,z2\n1,2,3\n1,2,3,4,5\n")
    (folder / "shifted.csv").write_text("id,z0,z1,z2\na,0,1,2,3\nb,0,1,2,3\n")
    np.save(folder / "large.npy", np.where(np.arange(12).reshape(4, 3) == 4, 1e300, 0.5))
    (folder / "junk.parquet").write_bytes(b"PAR1 no")
    (folder / "junk.npz").write_bytes(b"PK no")
    np.save(folder / "wide.npy", np.zeros((4, 5)))
    np.save(folder / "pickled.npy", np.array([[{}, 1, 2]], object), allow_pickle=True)
    np.savez(folder / "pickled.npz", codes=np.array([[{}, 1, 2]], object))
    np.savez_compressed(folder / "void.npz", codes=np.zeros((1, 3), "V20000000"))
    np.savez(folder / "other.npz", z=Z)
    np.savez(folder / "ids.npz", codes=Z, ids=IDS[:3].astype(str))
    np.savez(folder / "fortran.npz", codes=np.asfortranarray(Z))
    with ZipFile(folder / "version.npz", "w") as archive, archive.open("codes.npy", "w") as member:
        np.lib.format.write_array(member, Z, version=(3, 0))
    return {
        "lacking.csv": r"lacks \[z1\]; the run's code has 3 units, z0 to z2",
        "more.csv": "has a column z3; the run's code has 3 units",
        "text.csv": "holds values that are no numbers",
        "n.parquet": "has no finite number in row 7",
        "none.csv": "holds no rows",
        "empty.csv": "cannot be read",
        "latin.csv": "cannot be read",
        "ragged.csv": "cannot be read",
        "shifted.csv": "has 4 columns in its first line and 5 in the next",
        "large.npy": "has no finite number in row 1",
        "void.npz": "holds values that are no numbers",
        "junk.parquet": "cannot be read",
        "junk.npz": "cannot be read",
        "wide.npy": r"holds an array \[4, 5\]; the run's code needs \[N,3\]",
        "pickled.npy": "cannot be read",
        "pickled.npz": "cannot be read",
        "other.npz": r"key=codes: \S+ has the arrays \[z\]",
        "ids.npz": "3 ids and 10 codes",
        "version.npz": r"its format is version \(3, 0\)",
        "fortran.npz": "must be numbers, row by row",
        "nowhere.csv": "no such file",
        "codes.xlsx": "must end in one of",
        ".": "must end in one of",
    }


def test_what_holds_no_codes_is_refused_in_a_line(tmp_path):
    for name, message in bad(tmp_path).items():
        with bounded(), pytest.raises(SettingError, match=message) as refusal:
            read(tmp_path / name)
        assert "\n" not in str(refusal.value), name


def test_a_key_goes_with_an_npz(tmp_path):
    with pytest.raises(SettingError, match=r"key=z: goes with an \.npz file"):
        CodeFile(tmp_path / "codes.npy", 3, 4, "z")
