"""Real data from scikit-learn as files of one's own: the examples of docs/own-data.md.

python examples/own_data.py cells     # cells.csv: 569 rows of 30 numbers, benign or malignant
python examples/own_data.py photos    # photos/: 1,200 patches of two photos, in class folders
python examples/own_data.py digits    # digits.npz: 1,797 images of 8×8 bytes and their labels
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits, load_sample_images
from sklearn.feature_extraction.image import extract_patches_2d


def cells() -> None:
    """Write the measurements of cell nuclei (Wolberg, Street & Mangasarian 1993) as a table.

    The column `part` says the split: of the benign cells 60 % train and 10 % validate; the rest and
    all malignant ones are the test split.
    """
    data = load_breast_cancer(as_frame=True)
    table = data.data.round(6)
    table.insert(0, "cell", [f"cell {number}" for number in range(len(table))])
    table["diagnosis"] = data.target_names[data.target]
    part = np.full(len(table), "test", dtype=object)
    benign = np.random.default_rng(0).permutation(np.flatnonzero(table["diagnosis"] == "benign"))
    part[benign[: len(benign) * 6 // 10]] = "train"
    part[benign[len(benign) * 6 // 10 : len(benign) * 7 // 10]] = "validation"
    table["part"] = part
    table.to_csv("cells.csv", index=False)


def photos() -> None:
    """Write patches of 48×48 pixels of the photos that scikit-learn carries, a folder for each."""
    samples = load_sample_images()
    for name, photo in zip(("temple", "flower"), samples.images, strict=True):
        folder = Path("photos", name)
        folder.mkdir(parents=True)
        for number, patch in enumerate(
            extract_patches_2d(photo, (48, 48), max_patches=600, random_state=0)
        ):
            Image.fromarray(patch).save(folder / f"{number:03}.png")


def digits() -> None:
    """Write the 8×8 digits (Alpaydin & Kaynak 1998) as an array of bytes with labels."""
    data = load_digits()
    images = (data.images * 255 / 16).round().astype(np.uint8)
    np.savez("digits.npz", images=images, digit=data.target)


if __name__ == "__main__":
    makers = {maker.__name__: maker for maker in (cells, photos, digits)}
    if len(sys.argv) != 2 or sys.argv[1] not in makers:
        sys.exit(f"usage: python {sys.argv[0]} {'|'.join(makers)}")
    makers[sys.argv[1]]()
