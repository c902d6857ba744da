"""Fine-tuning with labels: the encoder and a softmax layer on its code, trained together."""

import logging
import math
from copy import deepcopy
from itertools import count
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from aecli.data import Batches, DataModule
from aecli.errors import SettingError, check_choice, check_int, check_number
from aecli.models import Autoencoder, Dictionary
from aecli.progress import Tracked
from aecli.randomness import derived_seed
from aecli.training.speed import FASTEST, FULL, MIXED, fastest_product

log = logging.getLogger(__name__)


class FineTuned(nn.Module):
    """softmax(V z + c) of the code z of x, `(B, *S)` → logits `(B, classes)`."""

    classes: Tensor

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
        right = 0
        for batch in batches:
            chosen = self.classes[self(batch.original).argmax(dim=1)]
            right += int((chosen == batch.label).sum())
        return 100 * (1 - right / len(batches.split))


class Finetuning:
    """The training of a `FineTuned` by stochastic gradient descent on labels.

    The weights are those of the epoch with the smallest error on the validation split; training
    stops once that is `patience` epochs ago. With an `average` γ it is the running average of the
    weights, w̄ ← γ w̄ + (1 − γ) w after each step, from the first step's w, that is validated and
    taken; statistics of batch normalization are those of the average over the labelled images.

    Args:
        lr, momentum, weight_decay: of SGD, ≥ 0; the momentum below 1.
        batch_size: examples a step.
        max_epochs, patience: ≥ 1.
        precision: "32-true", "bf16-mixed", or "fastest": the one whose products are faster.
        average: γ in (0, 1), such as 0.999; None for the weights themselves.
    """

    PRECISIONS = (FULL, MIXED, FASTEST)

    def __init__(
        self,
        lr: float,
        momentum: float,
        weight_decay: float,
        batch_size: int,
        max_epochs: int,
        patience: int,
        precision: str,
        average: float | None = None,
    ) -> None:
        self.lr = check_number("eval.finetune.lr", lr, low=0)
        self.momentum = check_number(
            "eval.finetune.momentum", momentum, low=0, high=1, open_high=True
        )
        self.weight_decay = check_number("eval.finetune.weight_decay", weight_decay, low=0)
        self.batch_size = check_int("eval.finetune.batch_size", batch_size, 1)
        self.max_epochs = check_int("eval.finetune.max_epochs", max_epochs, 1)
        self.patience = check_int("eval.finetune.patience", patience, 1)
        self.precision = check_choice("eval.finetune.precision", precision, self.PRECISIONS)
        if average is not None:
            check_number(
                "eval.finetune.average", average, low=0, high=1, open_low=True, open_high=True
            )
        self.average = average

    def __call__(self, model: Autoencoder, data: DataModule) -> dict[str, float]:
        """Return the test and validation errors in %, and the epoch; leave the model as it is."""
        if isinstance(model, Dictionary):
            raise SettingError(
                "eval.protocol=finetune: is for an encoder of layers, and a dictionary has none;"
                " use eval.protocol=probe"
            )
        classes = data.splits["train"].labels.unique()
        classifier = FineTuned(deepcopy(model), classes).to(data.device)
        weights = [*classifier.model.encoder.parameters(), *classifier.softmax.parameters()]
        for weight in weights:
            weight.requires_grad_(True)
        optimizer = torch.optim.SGD(
            weights, self.lr, self.momentum, weight_decay=self.weight_decay, fused=True
        )
        averaged, taken = None, classifier
        if self.average is not None:
            averaged = AveragedModel(classifier, multi_avg_fn=get_ema_multi_avg_fn(self.average))
            taken = cast(FineTuned, averaged.module)
        run_seed, passes = torch.initial_seed(), count()
        train = data.shuffled(
            "train",
            self.batch_size,
            lambda: derived_seed(run_seed, "fine-tuning", next(passes)),
        )
        least, why = model.smallest_batch
        if train.last < least:
            raise SettingError(
                f"eval.finetune.batch_size={self.batch_size}: every batch must have {least}"
                f" examples ({why}); the last of {len(train.split)} examples has {train.last}"
            )
        validation = data.batches("validation")
        precision = fastest_product(data.device) if self.precision == FASTEST else self.precision
        mixed = precision == MIXED
        autocast = torch.autocast(data.device.type, torch.bfloat16, enabled=mixed)

        best, best_epoch, state = math.inf, 0, {}
        name = f"fine-tuning on {len(train.split):,} labels"
        tracked = Tracked(range(1, self.max_epochs + 1), name)
        for epoch in tracked:
            classifier.train()
            for batch in train:
                with autocast:
                    loss = classifier.loss(batch.original, batch.label)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if averaged is not None:
                    averaged.update_parameters(classifier)
            if not loss.isfinite():
                raise SettingError(f"eval.finetune.lr={self.lr}: diverged; try a smaller one")
            if averaged is not None:
                # Batches of a training, of which none has a single example.
                passed = data.shuffled("train", self.batch_size, lambda: run_seed)
                update_bn((batch.original for batch in passed), averaged)
            error = taken.error(validation)
            if error < best:
                best, best_epoch, state = error, epoch, deepcopy(taken.state_dict())
            tracked.note = f"validation error {error:.2f} %, best {best:.2f} %"
            if epoch - best_epoch >= self.patience:
                break
        taken.load_state_dict(state)
        log.info("fine-tuned: best epoch %d, validation error %.2f %%", best_epoch, best)
        test = taken.error(data.batches("test"))
        return {"finetune_val_error": best, "finetune_error": test, "finetune_epochs": best_epoch}
