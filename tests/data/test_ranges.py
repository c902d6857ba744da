"""Ranges of numbers are read like the numbers themselves."""

import pytest
import torch

from aecli.data.ranges import Ranges, blocks


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_the_ranges_of_a_mask_are_the_places_at_which_it_is_true(share):
    mask = torch.rand(1000) < share
    places, ranges = mask.nonzero().flatten(), Ranges.of_mask(mask)
    assert len(ranges) == len(places)
    assert torch.equal(ranges[:], places)
    assert torch.equal(ranges[3:70:7], places[3:70:7])
    some = torch.randint(0, max(1, len(places)), (50 * (len(places) > 0),))
    assert torch.equal(ranges[some], places[some])
    assert torch.equal(ranges.index_select(0, some), places[some])
    assert torch.equal(torch.cat([torch.empty(0).long(), *ranges.split(17)]), places)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 9, 10])
def test_ranges_are_cut_in_two_at_any_place(count):
    order = torch.tensor([2, 0, 1])
    ranges = blocks(10, 4).chosen(order)  # 8 9, 0 1 2 3, 4 5 6 7
    numbers = [8, 9, 0, 1, 2, 3, 4, 5, 6, 7]
    first, rest = ranges.cut(count)
    assert (first[:].tolist(), rest[:].tolist()) == (numbers[:count], numbers[count:])
    assert torch.equal(ranges[:], torch.tensor(numbers)), "the whole stays as it was"
    assert first.in_order()[:].tolist() == sorted(numbers[:count])
