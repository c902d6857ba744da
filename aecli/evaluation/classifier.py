"""A small classifier, in whose last hidden layer sets of examples are compared."""

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

from aecli.data import Batches
from aecli.evaluation import metrics
from aecli.evaluation.kept import kept
from aecli.randomness import derived_seed

HIDDEN, FEATURES = 256, 64
EPOCHS, BATCH, RATE = 5, 100, 1e-3
LEAST_SCALE = 1e-12
"""Of features that are all the same."""


class Classifier(NamedTuple):
    """D → 256 → 64 → classes, with ReLUs, by Adam with a rate of 1e-3 that falls to 0 in 5 epochs.

    Its weights depend on the training examples and the seed, on nothing of the run's model: runs on
    the same data are measured in the same space.
    """

    network: nn.Sequential
    classes: Tensor
    """The labels, `(L,)`."""
    mean: Tensor
    """Of the features over the training examples, `(64,)`."""
    scale: Tensor
    """The root mean square of the features' deviations from it, a scalar."""

    @torch.no_grad()
    def features(self, rows: Tensor) -> Tensor:
        """Return the 64 activations before the last layer of rows `(N, D)`, centered and scaled.

        As all features have one scale, distances keep their proportions.
        """
        parts = [self.network[:-1](part) for part in rows.split(1000)]
        return (torch.cat(parts) - self.mean) / self.scale

    @torch.no_grad()
    def error(self, batches: Batches) -> float:
        """Return the share of wrong labels, in %."""
        rows, labels = metrics.pixels(batches)
        chosen = self.network(rows).argmax(dim=1)
        return 100 * float((self.classes[chosen] != labels).double().mean())


def fitted(batches: Batches, seed: int) -> Classifier:
    """Return the classifier of the labelled examples in `batches`: on the CPU, the same each time.

    Of the same examples and seed as the last time it is the one from then.
    """
    rows, labels = metrics.pixels(batches)
    return kept("classifier", (seed,), (rows, labels), lambda: _fit(rows, labels, seed))


def _fit(rows: Tensor, labels: Tensor, seed: int) -> Classifier:
    classes, target = labels.unique(return_inverse=True)
    with torch.random.fork_rng(devices=()), torch.enable_grad():
        torch.manual_seed(derived_seed(seed, "classifier"))
        network = nn.Sequential(
            *(nn.Linear(rows.shape[1], HIDDEN), nn.ReLU()),
            *(nn.Linear(HIDDEN, FEATURES), nn.ReLU()),
            nn.Linear(FEATURES, len(classes)),
        )
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
        steps = EPOCHS * -(-len(rows) // BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(EPOCHS):
            for index in torch.randperm(len(rows)).split(BATCH):
                loss = F.cross_entropy(network(rows[index]), target[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    network.eval().requires_grad_(False)
    raw = Classifier(network, classes, torch.zeros(()), torch.ones(())).features(rows).double()
    scale = (raw - raw.mean(dim=0)).square().mean().sqrt().clamp_min(LEAST_SCALE)
    return Classifier(network, classes, raw.mean(dim=0).float(), scale.float())
