"""What is added up of a dictionary over an epoch or a split."""

import pytest
import torch

from aecli.dictionaries.auxiliary import ErrorSpread
from aecli.errors import SettingError
from aecli.models.dictionary_sums import Fit


@pytest.mark.parametrize(("rows", "features"), [(2, 64), (2, 576), (3, 64), (7, 576), (1000, 64)])
def test_rows_that_are_all_the_same_have_no_spread(rows, features):
    x = torch.randn(1, features).expand(rows, features)
    fit, spread = Fit(torch.zeros(features), 4), ErrorSpread(torch.zeros(features))
    fit.add(x, 1.001 * x, torch.zeros(1).int(), torch.ones(1))
    spread.add(x)
    assert fit.compute()["explained_variance"] == 0
    assert spread.share() == 0


def test_the_fit_of_half_an_epoch_goes_on_as_if_nothing_had_been():
    x, output = torch.randn(2, 20, 4), torch.randn(2, 20, 4)
    index, code = torch.randint(0, 9, (2, 30)), torch.rand(2, 30).round()
    whole, half, rest = (Fit(torch.ones(4), 9) for _ in range(3))
    for n in range(2):
        whole.add(x[n], output[n], index[n], code[n])
    half.add(x[0], output[0], index[0], code[0])
    rest.load(half.state(), 9)
    rest.add(x[1], output[1], index[1], code[1])
    assert rest.compute() == whole.compute()
    for name, wrong in (("count", -1), ("active", torch.zeros(8).long()), ("sums", torch.ones(5))):
        with pytest.raises(SettingError):
            Fit(torch.ones(4), 9).load(half.state() | {name: wrong}, 9)
