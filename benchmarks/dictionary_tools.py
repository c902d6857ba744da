"""Sparse dictionaries beside SAELens, dictionary_learning and sparsify.

Needs sae-lens 6.54.12, eai-sparsify 1.3.3 and dictionary-learning 0.1.0.
Each tool is driven through its own trainer, with its defaults for all but the sizes: k, latents,
rows of a batch. Of sparsify, whose trainer takes a language model, it is the dictionary with an
Adam step.

    python -m benchmarks.dictionary_tools quality 'acts/*.npy' [--seeds 0 1 2] [--latents 4096]
    python -m benchmarks.dictionary_tools metrics 'acts/*.npy'
    python -m benchmarks.dictionary_tools speed --latents 65536 --rows 4096
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import aecli
from aecli.api import Model
from aecli.data import DataModule
from aecli.models.dictionary_sums import Fit

HELD_OUT_AT_ONCE = 4096
METRICS_ROWS, METRICS_EPOCHS = 131_072, 8
"""Of the training before metrics are compared: over the 1,000 steps that one tool asks for."""
STEPS_TIMED = 5
Coder = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Rows to their code `(B, n)` and reconstruction `(B, d)`."""


class Tool(ABC):
    """A dictionary in somebody's training loop.

    Args:
        features: d.
        latents: n.
        k: latents that are active, in each row or in the mean over a batch.
        rows: rows of a batch.
        steps: training steps in all.
        seed: of the start.
    """

    name: str

    @abstractmethod
    def __init__(
        self, features: int, latents: int, k: int, rows: int, steps: int, seed: int
    ) -> None: ...

    @abstractmethod
    def step(self, x: Tensor) -> None:
        """Train on rows `(B, d)`."""

    @abstractmethod
    def coded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the code `(B, n)` and the reconstruction `(B, d)`, as the tool uses a model."""


class SAELens(Tool):
    """SAELens's `SAETrainer`, a step at a time, with its optimizer at its default rate."""

    name = "SAELens"
    batch = False

    def __init__(
        self, features: int, latents: int, k: int, rows: int, steps: int, seed: int
    ) -> None:
        from sae_lens import (
            BatchTopKTrainingSAE,
            BatchTopKTrainingSAEConfig,
            TopKTrainingSAE,
            TopKTrainingSAEConfig,
        )
        from sae_lens.config import LoggingConfig, SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer

        torch.manual_seed(seed)
        kind, settings = (
            (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig)
            if self.batch
            else (TopKTrainingSAE, TopKTrainingSAEConfig)
        )
        sae = kind(settings(d_in=features, d_sae=latents, k=k))
        config = SAETrainerConfig(
            total_training_samples=rows * steps,
            train_batch_size_samples=rows,
            lr_end=3e-4,  # of its schedule, which is constant by default
            logger=LoggingConfig(log_to_wandb=False),
        )
        self.trainer = SAETrainer(cfg=config, sae=sae, data_provider=iter([]))

    def step(self, x: Tensor) -> None:
        """Train on rows, and count the step as `fit` does."""
        self.trainer.step(x)
        self.trainer.maybe_reset_sparsity()
        self.trainer.n_training_steps += 1

    @cached_property
    def _saved(self) -> Any:
        from sae_lens import SAE

        with tempfile.TemporaryDirectory() as folder:  # what its users get: BatchTopK as JumpReLU
            self.trainer.sae.save_inference_model(folder)
            return SAE.load_from_disk(folder)

    @torch.no_grad()
    def coded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the code and the reconstruction of the model that it saves."""
        code = self._saved.encode(x)
        return code, self._saved.decode(code)


class SAELensBatch(SAELens):
    """The same with a BatchTopK dictionary."""

    batch = True


class DictionaryLearning(Tool):
    """dictionary_learning's `TopKTrainer`."""

    name = "dictionary_learning"

    def __init__(
        self, features: int, latents: int, k: int, rows: int, steps: int, seed: int
    ) -> None:
        self.trainer = self._trainer()(
            steps=steps, activation_dim=features, dict_size=latents, k=k, layer=0, lm_name="",
            seed=seed, device="cpu",
        )  # fmt: skip
        self.done = 0

    @staticmethod
    def _trainer() -> Any:
        from dictionary_learning.trainers.top_k import TopKTrainer

        return TopKTrainer

    def step(self, x: Tensor) -> None:
        """Train on rows."""
        self.trainer.update(self.done, x)
        self.done += 1

    @torch.no_grad()
    def coded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the code and the reconstruction."""
        code = self.trainer.ae.encode(x)
        return code, self.trainer.ae.decode(code)


class DictionaryLearningBatch(DictionaryLearning):
    """dictionary_learning's `BatchTopKTrainer`."""

    @staticmethod
    def _trainer() -> Any:
        from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer

        return BatchTopKTrainer


class Sparsify(Tool):
    """sparsify's `SparseCoder` with its losses, an Adam step and its unit rows."""

    name = "sparsify"

    def __init__(
        self, features: int, latents: int, k: int, rows: int, steps: int, seed: int
    ) -> None:
        from sparsify import SparseCoder
        from sparsify.config import SparseCoderConfig

        torch.manual_seed(seed)
        settings = SparseCoderConfig(num_latents=latents, k=k)
        self.coder = SparseCoder(features, settings, device="cpu", dtype=torch.float32)
        self.optimizer = torch.optim.Adam(self.coder.parameters(), fused=True)
        self.unused = torch.zeros(latents, dtype=torch.long)

    def step(self, x: Tensor) -> None:
        """Train on rows."""
        out = self.coder(x, dead_mask=self.unused > 10_000_000)
        (out.fvu + out.auxk_loss / 32).backward()
        self.coder.remove_gradient_parallel_to_decoder_directions()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.coder.set_decoder_norm_to_unit_norm()
        self.unused += len(x)
        self.unused[out.latent_indices.flatten()] = 0

    def coded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Not asked for."""
        raise NotImplementedError


QUALITY = {
    "topk_sae": [SAELens, DictionaryLearning],
    "batch_topk_sae": [SAELensBatch, DictionaryLearningBatch],
}


class ByDictionaryLearning:
    """What its `evaluate` needs of a dictionary: the code and the reconstruction, here known."""

    def __init__(self, code: Tensor, output: Tensor) -> None:
        self.code, self.output, self.dict_size = code, output, code.shape[1]

    def __call__(self, x: Tensor, output_features: bool) -> tuple[Tensor, Tensor]:
        """Return both."""
        return self.output, self.code


def held_out(data: DataModule) -> Iterator[Tensor]:
    """Yield the rows of the test split, some at a time."""
    for batch in data.batches("test", HELD_OUT_AT_ONCE):
        yield batch.x


def fitted(data: DataModule, coded: Coder, latents: int) -> Fit:
    """Return aecli's own sums over the held-out rows, of anybody's code and reconstruction."""
    fit = Fit(torch.zeros(int(data.shape[0])), latents)
    with torch.no_grad():
        for x in held_out(data):
            code, output = coded(x)
            _, index = code.nonzero(as_tuple=True)
            fit.add(x, output, index, code[code != 0])
    return fit


def trained(arguments: argparse.Namespace, kind: str, seed: int, epochs: int, *more: str) -> Model:
    """Return a run of aecli on the files."""
    return aecli.train(
        f"model={kind}", "dataset=activations", f"dataset.files={arguments.files!r}",
        f"model.code_dim={arguments.latents}", f"sparsity.k={arguments.k}",
        f"dataset.batch_size={arguments.rows}", f"trainer.max_epochs={epochs}", f"seed={seed}",
        f"output_dir={Path(arguments.out).parent / 'runs'}", "pictures_every=0", *more,
    )  # fmt: skip


def trained_by(
    kind: type[Tool], data: DataModule, arguments: argparse.Namespace, seed: int, epochs: int
) -> Tool:
    """Return somebody else's dictionary, trained on the batches of a run's data."""
    steps = epochs * len(data.batches("train"))
    features = int(data.shape[0])
    tool = kind(features, arguments.latents, arguments.k, arguments.rows, steps, seed)
    for _ in range(epochs):
        for batch in data.batches("train"):
            tool.step(batch.x)
    return tool


def of_run(run: Model) -> Coder:
    """Return what codes and decodes rows by a run's model."""
    model = run.model.eval()

    def coded(x: Tensor) -> tuple[Tensor, Tensor]:
        code = model.encode(x)
        return code, model.decode(code).mean

    return coded


def metrics(arguments: argparse.Namespace) -> None:
    """Train each for some steps; print what each tool's own metrics say of all of them."""
    run = trained(arguments, "topk_sae", 0, METRICS_EPOCHS, f"dataset.train_size={METRICS_ROWS}")
    coders = {"aecli": of_run(run)}
    for kind in QUALITY["topk_sae"]:
        tool = trained_by(kind, run.data, arguments, 0, METRICS_EPOCHS)
        coders[tool.name] = tool.coded
    x = torch.cat(list(held_out(run.data)))
    # Not before: with them come packages that replace torch's optimizers.
    from dictionary_learning.evaluation import evaluate
    from sae_lens.evals import ExplainedVarianceCalculator

    for name, coded in coders.items():
        own = fitted(run.data, coded, arguments.latents).compute()
        with torch.no_grad():
            code, output = map(torch.cat, zip(*map(coded, held_out(run.data)), strict=True))
        calculator = ExplainedVarianceCalculator()
        calculator.add_batch(sae_output=output, hidden_acts=x)
        theirs = evaluate(ByDictionaryLearning(code, output), iter([x]))
        print(f"of {name}'s model:")  # noqa: T201
        for key, other, value in (
            ("explained_variance", "SAELens", calculator.compute()),
            ("explained_variance", "dictionary_learning", theirs["frac_variance_explained"]),
            ("l0", "dictionary_learning", theirs["l0"]),
            ("cosine", "dictionary_learning", theirs["cossim"]),
            ("norm_ratio", "dictionary_learning", theirs["relative_reconstruction_bias"]),
            ("dead_share", "dictionary_learning", 1 - theirs["frac_alive"]),
        ):
            print(f"  {key:20} aecli {own[key]:.6f}   {other} {value:.6f}")  # noqa: T201


def quality(arguments: argparse.Namespace) -> None:
    """Train each on the same rows; write a line for each run."""
    results = Path(arguments.out)
    results.parent.mkdir(parents=True, exist_ok=True)
    runs = {}
    for kind, seed in itertools.product(arguments.kinds, arguments.seeds):
        began = time.perf_counter()
        run = runs[kind, seed] = trained(arguments, kind, seed, arguments.epochs)
        seconds = time.perf_counter() - began
        fit = fitted(run.data, of_run(run), arguments.latents)
        _keep(results, kind, "aecli", seed, seconds, fit)
    # Not before: with the others come packages that replace torch's optimizers.
    for (kind, seed), run in runs.items():
        for tool in QUALITY[kind]:
            began = time.perf_counter()
            other = trained_by(tool, run.data, arguments, seed, arguments.epochs)
            seconds = time.perf_counter() - began
            fit = fitted(run.data, other.coded, arguments.latents)
            _keep(results, kind, other.name, seed, seconds, fit)


def _keep(results: Path, kind: str, name: str, seed: int, seconds: float, fit: Fit) -> None:
    line = {"model": kind, "tool": name, "seed": seed, "seconds": round(seconds, 1)}
    line |= {key: round(value, 5) for key, value in fit.compute().items()}
    print(json.dumps(line), flush=True)  # noqa: T201
    with results.open("a") as file:
        file.write(json.dumps(line) + "\n")


def speed(arguments: argparse.Namespace) -> None:
    """Time a step of each beside the encoder's product, in turns; print the medians' ratios."""
    x = torch.randn(arguments.rows, arguments.features)
    sizes = (arguments.features, arguments.latents, arguments.k, arguments.rows)
    tools: list[Tool] = []
    for kind in (SAELens, DictionaryLearning, Sparsify):
        tools.append(kind(*sizes, 10_000, 0))
    weight = torch.randn(arguments.latents, arguments.features)
    times: dict[str, list[float]] = {}
    for _ in range(STEPS_TIMED + 1):
        for name, work in [
            ("product", lambda: _product(x, weight)),
            *((tool.name, lambda tool=tool: tool.step(x)) for tool in tools),
        ]:
            began = time.perf_counter()
            work()
            times.setdefault(name, []).append(time.perf_counter() - began)
    product = statistics.median(times["product"][1:])
    for name, each in times.items():
        median = statistics.median(each[1:])
        print(f"{name}: {median:.2f} s, {median / product:.2f} of the product")  # noqa: T201


@torch.no_grad()
def _product(x: Tensor, weight: Tensor) -> None:
    for part in x.split(256):
        part @ weight.T


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("quality", "metrics", "speed"))
    parser.add_argument("files", nargs="?", help="shards, for quality and metrics")
    parser.add_argument("--kinds", nargs="+", default=list(QUALITY))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--latents", type=int, default=4096)
    parser.add_argument("--features", type=int, default=576)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", default="outputs/dictionary_tools/quality.jsonl")
    arguments = parser.parse_args()
    {"quality": quality, "metrics": metrics, "speed": speed}[arguments.what](arguments)


if __name__ == "__main__":
    main()
