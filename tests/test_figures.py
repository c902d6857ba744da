import io

import numpy as np
import pytest
import torch
from PIL import Image

from aecli import figures


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_puts_images_where_they_belong(channels):
    images = torch.zeros(5, channels, 8, 8)
    images[3] = 1
    picture = figures.grid(images, columns=3)
    cell = 8 * 7 + 2  # enlarged to at least 56 pixels, and a line
    assert picture.shape == (channels, 2 * cell, 3 * cell)
    assert (picture[:, cell : 2 * cell - 2, : cell - 2] == 1).all()
    assert (picture[:, : cell - 2, : cell - 2] == 0).all()
    assert (picture[:, cell:, 2 * cell :] == 0.5).all()


def test_a_png_holds_what_was_drawn():
    images = torch.rand(4, 1, 28, 28) * 3 - 1
    picture = figures.grid(images, 2)
    loaded = np.asarray(Image.open(io.BytesIO(figures.png(picture)))) / 255
    assert np.abs(loaded - picture[0].numpy()).max() < 0.003


def test_figures_have_pixels():
    rows = figures.labelled_rows(
        [("input", torch.rand(4, 1, 8, 8)), ("out", torch.rand(4, 1, 8, 8))]
    )
    points = figures.code_map(np.random.rand(50, 2), np.arange(50) % 3, "codes", "unit")
    for figure in (rows, points):
        pixels = figures.pixels_of(figure)
        assert 0 <= pixels.min() < pixels.max() <= 1


def test_filters_keep_zero_at_mid_grey_and_use_the_whole_range():
    weights = torch.tensor([0.0, -2.0, 1.0]).view(1, 1, 1, 3)
    picture = figures.filters(weights, columns=1)
    assert picture[0, 0, ::19][:3].tolist() == [0.5, 0.0, 0.75]  # each pixel enlarged 19 times
    assert (picture[0, -1] == 1).all()
    assert figures.filters(torch.zeros(1, 1, 4, 4), columns=1)[0, 0, 0] == 0.5
