"""Fine-tuning with labels: the encoder and a softmax layer on its code, trained together."""

import logging
from copy import deepcopy
from itertools import count

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from omegaconf import DictConfig
from torch import Tensor, nn

from aecli.data import Batches, InMemoryDataModule
from aecli.errors import SettingError, check_choice, check_int, check_number
from aecli.models import Autoencoder
from aecli.progress import Tracked

log = logging.getLogger(__name__)

PRECISIONS = ("32-true", "bf16-mixed")


class Classifier(nn.Module):
    """softmax(V z + c) of the code z of x, `(B, C, H, W)` → logits `(B, classes)`."""

    def __init__(self, model: Autoencoder, classes: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("classes", classes)
        self.softmax = nn.Linear(model.code_dim, len(classes))
        # Zero, so that at first no gradient disturbs the encoder before the layer knows better.
        nn.init.zeros_(self.softmax.weight)
        nn.init.zeros_(self.softmax.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.softmax(self.model.encode(x))

    def loss(self, x: Tensor, label: Tensor) -> Tensor:
        """Return the mean of −log p(label|x), nats."""
        return F.cross_entropy(self(x).float(), torch.searchsorted(self.classes, label))

    @torch.no_grad()
    def error(self, batches: Batches) -> float:
        """Return the share of wrong labels, in %."""
        self.eval()
        right = sum(
            (self.classes[self(image).argmax(dim=1)] == label).sum() for _, image, label in batches
        )
        return 100 * (1 - float(right) / len(batches.split.images.labels))


def finetune(
    model: Autoencoder, data: InMemoryDataModule, settings: DictConfig
) -> dict[str, float]:
    """Return the test error in % of the encoder and a softmax layer trained by SGD on labels.

    The weights are those of the epoch with the smallest error on the validation split; training
    stops once that is `patience` epochs ago. The model itself stays as it is.
    """
    optimizer_settings = {
        name: check_number(f"eval.finetune.{name}", settings[name], low=0)
        for name in ("lr", "momentum", "weight_decay")
    }
    size = check_int("eval.finetune.batch_size", settings.batch_size, 1)
    epochs = check_int("eval.finetune.max_epochs", settings.max_epochs, 1)
    patience = check_int("eval.finetune.patience", settings.patience, 1)
    precision = check_choice("eval.finetune.precision", settings.precision, PRECISIONS)

    classes = data.splits["train"].images.labels.unique()
    classifier = Classifier(deepcopy(model), classes).to(data.device)
    weights = [*classifier.model.encoder.parameters(), *classifier.softmax.parameters()]
    for weight in weights:
        weight.requires_grad_(True)
    optimizer = torch.optim.SGD(weights, fused=True, **optimizer_settings)
    seeds = count(torch.initial_seed())
    train = data.shuffled("train", size, lambda: next(seeds))
    validation = data.batches("validation")
    autocast = torch.autocast(data.device.type, torch.bfloat16, enabled=precision == "bf16-mixed")

    best, best_epoch, state = float("inf"), 0, {}
    tracked = Tracked(
        range(1, epochs + 1), f"fine-tuning on {len(train.split.images.labels):,} labels"
    )
    for epoch in tracked:
        classifier.train()
        for _, image, label in train:
            with autocast:
                loss = classifier.loss(image, label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if not loss.isfinite():
            raise SettingError(f"eval.finetune.lr={settings.lr}: diverged; try a smaller one")
        error = classifier.error(validation)
        if error < best:
            best, best_epoch, state = error, epoch, deepcopy(classifier.state_dict())
        tracked.note = f"validation error {error:.2f} %, best {best:.2f} %"
        if epoch - best_epoch >= patience:
            break
    classifier.load_state_dict(state)
    log.info("fine-tuned: best epoch %d, validation error %.2f %%", best_epoch, best)
    test = classifier.error(data.batches("test"))
    return {"finetune_val_error": best, "finetune_error": test, "finetune_epochs": best_epoch}
