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
    points = figures.code_map(np.random.rand(50, 2), np.arange(50) % 3, "codes", ("z0", "z1"))
    for figure in (rows, points):
        pixels = figures.pixels_of(figure)
        assert 0 <= pixels.min() < pixels.max() <= 1


def test_examples_lie_one_below_the_other_whatever_the_rows_are_called():
    images = torch.rand(5, 1, 8, 8)
    short, long = (
        figures.pixels_of(figures.labelled_rows([("input", images), (name, images)]))
        for name in ("output", "corrupted")
    )
    assert short.shape == long.shape
    right = slice(round(1.15 * 110), None)  # of the names
    assert (short[..., right] == long[..., right]).all()
    titled = figures.labelled_rows([("salt_and_pepper 0.3", images)], "ae on $x$")
    assert titled.axes[0].get_title(loc="left")
    name = titled.axes[0].get_yticklabels()[0]
    figures.pixels_of(titled)
    assert name.get_window_extent().x0 >= 0


def test_the_rates_say_how_many_latents_are_dead():
    rates = np.array([0.0, 0.5, 0.25, 1.0])
    (axes,) = figures.firing_rates(rates, 360, "topk_sae on digits").axes
    told = "3 of 4 latents fire; 1 is dead (never active on the 360 test rows)"
    assert axes.get_title() == f"topk_sae on digits\n{told}"
    assert axes.get_legend() is None
    assert sum(bar.get_height() for bar in axes.patches) == 3


def test_filters_keep_zero_at_mid_grey_and_use_the_whole_range():
    weights = torch.tensor([0.0, -2.0, 1.0]).view(1, 1, 1, 3)
    picture = figures.filters(weights, columns=1)
    assert picture[0, 0, ::19][:3].tolist() == [0.5, 0.0, 0.75]  # each pixel enlarged 19 times
    assert (picture[0, -1] == 1).all()
    assert figures.filters(torch.zeros(1, 1, 4, 4), columns=1)[0, 0, 0] == 0.5


def test_a_row_of_numbers_is_a_bar_for_each():
    picture = figures.bars(torch.tensor([[2.0, -1.0, 0.0], [1.0, 1.0, 1.0]]))
    assert picture.shape == (2, 1, 56, 57)
    dark = (picture[:, 0] < 0.5).sum(dim=1)  # of each column of pixels
    assert dark[0, :19].unique().item() == pytest.approx(2 / 3 * 56, abs=1.5)
    assert dark[0, 19:38].unique().item() == pytest.approx(1 / 3 * 56, abs=1.5)
    assert dark[0, 38:].unique().item() == 1  # the line at 0
    assert dark[1].unique().item() == pytest.approx(1 / 3 * 56, abs=1.5)


def test_one_number_far_out_leaves_the_other_bars_visible():
    rows = torch.ones(30, 20)
    rows[3, 4] = 1e6
    assert (figures.bars(rows)[0] < 0.5).all()


def test_the_bars_of_a_long_row_are_the_extremes_of_neighbours():
    rows = torch.zeros(1, 1120)
    rows[0, 500:510], rows[0, 505] = -1, 1
    picture = figures.bars(rows)
    assert picture.shape[-1] == 112 == 1120 // 10
    assert (picture[0, 0, :, 50] < 0.5).all()
    assert (picture[0, 0, :, 49] < 0.5).sum() == 2  # 0 lies between two


@pytest.mark.parametrize("shape", [(3,), (40,), (900,), (1, 8, 8), (3, 20, 7), (4, 64, 64)])
def test_the_area_of_a_picture_is_not_underestimated(shape):
    picture = figures.grid(torch.rand(1, *shape), 1)
    most = figures.area(shape)
    assert picture[0, :-2, :-2].numel() <= 1.5 * most


def test_of_opacity_what_is_seen_over_white():
    images = torch.tensor([0.2, 0.4, 0.6, 0.25]).view(1, 4, 1, 1)
    assert figures.as_images(images).flatten().tolist() == pytest.approx([0.8, 0.85, 0.9])
    assert figures.filters(torch.rand(2, 4, 9, 9) - 0.5, columns=2).shape[0] == 3


def test_of_many_labels_the_commonest_have_a_colour():
    labels = np.array([f"${number}" for number in range(30)] + ["$29"] * 5)
    figure = figures.code_map(np.random.rand(35, 2), labels, "codes", ("z0", "z1"))
    (axes,) = figure.axes
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(named) == 21
    assert named[0] == "10 others"
    assert any("29" in name for name in named)
    assert figures.pixels_of(figure).shape[0] == 3  # "$" starts no formula


def test_a_frame_leaves_the_grid_as_it_is():
    grid = figures.grid(torch.rand(6, 1, 8, 8), columns=3)
    height, width = grid.shape[1:]
    picture = figures.framed(grid, "a title", rows=["first", "second"], columns=["-1", "0", "1"])
    left, top = (
        picture.shape[2] - width - figures.MARGIN,
        picture.shape[1] - height - figures.MARGIN,
    )
    inside = picture[:, top : top + height, left : left + width]
    torch.testing.assert_close(inside, grid, rtol=0, atol=0.5 / 255 + 1e-6)
    assert picture[:, : top // 2].min() < 0.5  # the title
    assert picture[:, top // 2 : top, left:].min() < 0.5  # the columns' names
    for row in range(2):  # the rows' names
        lines = slice(top + row * height // 2, top + (row + 1) * height // 2)
        assert picture[:, lines, :left].min() < 0.5
    colours = figures.framed(torch.rand(3, 20, 30), "a title that is wider than this")
    assert colours.shape[0] == 3
    assert colours.shape[2] > 100
    wide = figures.framed(grid, "", columns=["much too wide for a column"] * 3)
    assert wide[:, : wide.shape[1] - height - figures.MARGIN].min() == 1


def test_filters_on_one_scale_keep_their_sizes():
    weights = torch.tensor([[0.0, 1.0], [0.0, 0.1]]).view(2, 1, 1, 2)
    together = figures.filters(weights, columns=1, together=True)
    assert together.unique().tolist() == pytest.approx([0.5, 0.55, 1.0])


def test_activations_show_the_most_active_of_many_units():
    codes = torch.zeros(2, 3 * figures.MOST_UNITS)
    codes[0, 1], codes[1, -1] = 2.0, -3.0
    figure = figures.activations(torch.rand(2, 1, 8, 8), codes, ["3", "8"], "codes")
    left, right, _ = figure.axes
    drawn = right.images[0].get_array()
    assert drawn.shape == (2, figures.MOST_UNITS)
    assert (drawn[0, 0], drawn[1, -1]) == (2, -3)
    assert np.count_nonzero(drawn) == 2
    assert right.images[0].get_clim() == (-3, 3)  # 0 is in the middle of the colours
    assert [text.get_text() for text in left.get_yticklabels()] == ["3", "8"]
    positive = figures.activations(torch.rand(2, 5), codes.abs(), ["", ""], "codes")
    assert positive.axes[1].images[0].get_clim() == (0, 3)
    assert figures.pixels_of(positive).min() < 0.1


def test_the_prior_is_two_circles_around_its_centre():
    points = np.random.rand(50, 2)
    figure = figures.code_map(points, None, "codes", ("z0", "z1"), prior=np.array([2.0, -1.0]))
    (axes,) = figure.axes
    for line, radius in zip(axes.lines, (1, 2), strict=True):
        distance = np.hypot(line.get_xdata() - 2, line.get_ydata() + 1)
        assert distance == pytest.approx(np.full(100, radius))
    figures.pixels_of(figure)
    assert axes.get_aspect() == 1
