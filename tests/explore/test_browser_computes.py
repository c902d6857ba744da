"""The networks in the page compute what torch does."""

import pytest
import torch

from aecli.explore import examples
from aecli.explore.model import networks
from aecli.explore.plan import as_kept, compute
from tests.explore.browser import IN_A_BROWSER, SPARSE, computed, table
from tests.explore.made import loaded

pytestmark = IN_A_BROWSER
COMPUTED = [
    *[
        ("model=vae", f"network.activation={name}")
        for name in ("relu", "gelu", "elu", "tanh", "sigmoid", "softplus", "gated")
    ],
    ("model=ae", "network.tied=true", "network.batch_norm=true", "likelihood=cross_entropy"),
    SPARSE,
    ("model=ae", "sparsity=topk", "sparsity.k=2", "sparsity.by=magnitude", "likelihood=gaussian"),
    ("model=sparse_ae", "likelihood.output=sigmoid"),
    ("model=vae", "sparsity=l1", "likelihood=continuous_bernoulli", "dataset.binarize=none"),
    ("model=vae", "network=conv", "network.channels=[6,5,4]"),
    ("model=pca",),
]


@pytest.mark.parametrize("words", COMPUTED, ids=" ".join)
def test_the_page_computes_what_torch_does(words, tmp_path, shown):
    run = loaded(tmp_path, *words)
    browser, steps = shown(run), networks(run)
    z, split = torch.randn(100, run.model.code_dim), run.data.splits["test"]
    x = split.examples.card.scaled(split.values[:100])
    decoded, own = computed(browser, "decode", z), run.model.decode(z).mean.flatten(1)
    assert (decoded - own).abs().max() < 1e-3 * max(1, own.abs().max())  # its weights have 16 bits
    output = compute(as_kept(steps.decoder), z).view(-1, 1, 8, 8)
    exact = run.model.likelihood(output).mean.flatten(1)
    torch.testing.assert_close(decoded, exact, atol=1e-5, rtol=1e-5)
    encoded = computed(browser, "encode", x.flatten(1))
    codes = compute(as_kept(steps.encoder), x.flatten(1))[:, : run.model.code_dim]
    torch.testing.assert_close(encoded, codes, atol=1e-5, rtol=1e-5)
    rounds = run.config.dataset.binarize != "none"
    scores = examples.codes(run.model, x, rounds).score
    found = computed(browser, "score", x.flatten(1))[:, 0]
    torch.testing.assert_close(found, scores, atol=1e-2, rtol=2e-3)


def test_the_page_computes_the_columns_of_a_table(tmp_path, shown):
    run = table(tmp_path, "model=vae")
    browser = shown(run)
    z, split = torch.randn(100, 3), run.data.splits["train"]
    own = run.model.decode(z).mean
    assert (computed(browser, "decode", z) - own).abs().max() < 1e-3 * max(1, own.abs().max())
    x = split.examples.card.scaled(split.values)
    assert (x[:, -3:] == 0).any()
    scores = examples.codes(run.model, x, rounds=False).score
    torch.testing.assert_close(computed(browser, "score", x)[:, 0], scores, atol=1e-2, rtol=2e-3)
