"""The bare loops of the benchmark do what aecli's variants do."""

import pytest
import torch

from aecli.build import build
from benchmarks import throughput
from tests.conftest import configure


@pytest.mark.parametrize("row", throughput.ROWS, ids=lambda row: row.name)
def test_the_bare_loss_is_the_models(row):
    # A loss is that of any images: the digits in place of photos.
    settings = [word for word in row.settings if not word.startswith("dataset=array")]
    settings = [word for word in settings if not word.startswith("dataset.file")]
    config, _ = configure(*settings, "dataset.batch_size=50")
    model, data = build(config, "model"), build(config, "dataset")
    data.setup()
    x = next(iter(data.train_dataloader())).x
    model.train()
    torch.manual_seed(0)
    expected = model.terms(x).loss
    torch.manual_seed(0)
    (loss,) = row.loop.args
    torch.testing.assert_close(loss(model.encoder, model.decoder, x), expected)
