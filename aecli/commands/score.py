"""`aecli score`: how unusual each example is, a row each, into a file."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from aecli import figures, files
from aecli.commands.passes import Pass, examples, opened
from aecli.commands.places import file_for, folder_for, is_folder
from aecli.commands.restored import save_pictures
from aecli.data import Card
from aecli.data.table_card import TableCard
from aecli.errors import SettingError, check_bool, check_choice, check_int, check_number, check_seed
from aecli.evaluation import scores
from aecli.evaluation.detection import Detection, normal_class
from aecli.evaluation.scores import NearestCodes, Score
from aecli.evaluation.support import check_examples
from aecli.models import VAE
from aecli.progress import Tracked
from aecli.rows import Columns, beside, rows_in
from aecli.runs.load import Loaded
from aecli.runs.paths import shown
from aecli.text import one_line

log = logging.getLogger(__name__)

TAKES = {"importance_samples": "marginal_nll", "neighbors": "knn"}
"""Settings of one kind of score."""
TABLE, HISTOGRAM, MAPS = "scores.csv", "histogram.png", "maps"
"""What is in a folder of scores."""
JUDGED = ("test", "new")
"""Splits whose labels the scores are held against."""


class Scored(NamedTuple):
    """What is written of a batch."""

    columns: Columns
    maps: tuple[np.ndarray, np.ndarray] | None
    """The ids and the pictures of errors, bytes `(B, 1, H, W)`, if they are asked for."""


@torch.inference_mode()
def main(config: DictConfig) -> None:
    """Write id, split, label, score and anomaly of each example to `out`."""
    _check_settings(config)
    out = folder_for(config, "scores/") if is_folder(config) else file_for(config, "scores.csv")
    loaded = opened(config, out)
    kind = _kind(loaded, config)
    pieces = examples(loaded, config)
    scores.check_targets(kind, pieces.data, "add dataset.targets=…")
    detection = _detection(pieces, config.normal)
    if detection and not is_folder(config):
        files.refuse_existing_file(_histogram_for(out), config.overwrite)
    given = {key: config[key] for key in TAKES if config[key] is not None}
    score = score_of(loaded, kind, config.batch_size, config.seed, **given)
    of_training = score.of_training if isinstance(score, NearestCodes) else score
    threshold = _threshold(loaded, kind, score, config, detection)
    above = 0
    with _places(out, config, pieces.count, bool(detection)) as (add, histogram):
        for batch, columns in Tracked(pieces, f"scoring {pieces.count:,} examples by {kind}"):
            check_examples(kind, loaded.model, pieces.data, batch, columns["id"], columns["split"])
            now = of_training if columns["split"] == "train" else score
            values = now(batch).numpy(force=True)
            check_finite(values, np.asarray(columns["id"]), kind)
            found: dict[str, Any] = {**columns, "score": values}
            if threshold is not None:
                found["anomaly"] = values > threshold
                above += int(found["anomaly"].sum())
            maps = None
            if config.per_feature:
                errors = scores.squared_errors(loaded.model, batch)
                if is_image(loaded.card):
                    maps = np.asarray(columns["id"]), _maps(errors)
                else:
                    found |= shares(errors, values, loaded.card)
            if detection and columns["split"] in JUDGED:
                detection.add(values, cast(np.ndarray, columns["label"]))
            add(Scored(found, maps))
        if detection:
            histogram(_picture(detection, kind, threshold))
    if threshold is not None:
        share = 100 * above / pieces.count
        log.info(
            "%s of %s examples are above it (%.2g %%)", f"{above:,}", f"{pieces.count:,}", share
        )
    if detection:
        log.info(_said(detection, "of the test split " if "train" in pieces.names else ""))
    also = f", {shown(_histogram_for(out))}" if detection and not is_folder(config) else ""
    log.info("written: %s%s", shown(out), also)


def _check_settings(config: DictConfig) -> None:
    """Refuse a setting out of range, and one that the kind does not take."""
    check_bool("per_feature", config.per_feature)
    check_seed("seed", config.seed)
    if config.kind is not None:
        check_choice("kind", config.kind, scores.KINDS)
    if config.quantile is not None:
        check_number("quantile", config.quantile, 0, 1, open_low=True, open_high=True)
    for key, kind in TAKES.items():
        if config[key] is not None:
            if config.kind != kind:
                raise SettingError(f"{key}={config[key]}: goes with kind={kind}")
            check_int(key, config[key], 1)
    if config.per_feature and config.kind not in (None, "mse"):
        raise SettingError(f"per_feature=true: goes with kind=mse, not {config.kind}")


def _kind(loaded: Loaded, config: DictConfig) -> str:
    if not config.per_feature:
        return scores.kind_for(config.kind, loaded.model, loaded.choices["model"])
    if is_image(loaded.card) and not is_folder(config):
        raise SettingError(
            f"per_feature=true: gives a picture of each example's errors; out={config.out} must be"
            " a folder, such as out=scores/"
        )
    if scores.kind_for(config.kind, loaded.model, loaded.choices["model"]) != "mse":
        log.info("per_feature=true: scored by kind=mse, the kind that has a part of each feature")
    return "mse"


def score_of(
    loaded: Loaded,
    kind: str,
    batch_size: int,
    seed: int = 0,
    importance_samples: int = scores.IMPORTANCE_SAMPLES,
    neighbors: int = scores.NEIGHBORS,
) -> Score:
    """Return what scores a batch; some kinds look at the training split first.

    `seed` is that of the samples, which are made of the same numbers for every example.
    """
    model = loaded.model
    if kind in ("elbo", "marginal_nll"):
        vae = cast(VAE, model)
        sampled = scores.marginal_nll(vae, importance_samples)
        return scores.by_the_same_draws(scores.elbo(vae) if kind == "elbo" else sampled, seed)
    if kind == "nll":
        return scores.by_the_same_draws(scores.nll(model), seed)
    if kind == "mse":
        return scores.mse(model)
    training = loaded.data.batches("train", batch_size)
    tracked = Tracked(training, "encoding the training split")
    if kind == "mahalanobis":
        return scores.mahalanobis(model, tracked)
    return NearestCodes(model, tracked, len(loaded.data.splits["train"]), neighbors)


def check_finite(values: np.ndarray, ids: np.ndarray, kind: str) -> None:
    """Refuse an example whose score is beyond what a number holds, by its id."""
    wrong = ~np.isfinite(values)
    if wrong.any():
        raise SettingError(
            f"kind={kind}: example {one_line(ids[wrong.argmax()])} has no finite score; its values"
            " are too far from those of the training split (a fill value?): correct it or leave it"
            " out"
        )


def _threshold(
    loaded: Loaded, kind: str, score: Score, config: DictConfig, detection: Detection | None
) -> float | None:
    """Return the quantile of the validation split's scores above which one is an anomaly."""
    if config.quantile is None:
        return None
    validation, scored, others = Pass(loaded.data, ["validation"], config.batch_size), [], 0
    for batch, columns in Tracked(validation, "scoring the validation split"):
        check_examples(kind, loaded.model, loaded.data, batch, columns["id"], "validation")
        scored.append(score(batch).numpy(force=True))
        if detection and loaded.data.is_labelled:
            others += int((np.asarray(columns["label"]).astype(str) != detection.normal).sum())
    values = np.concatenate(scored)
    threshold = float(np.quantile(values, config.quantile))
    among = ""
    if detection and others:
        among = f", {others:,} of them not of the class {detection.normal}"
    log.info(
        f"threshold {threshold:.6g}: the quantile {config.quantile:g} of"
        f" {len(values):,} validation scores{among}"
    )
    return threshold


def _detection(pieces: Pass, normal: str | None) -> Detection | None:
    """Return what holds scores against labels, if these say which example is normal."""
    names: list[str] = []
    if pieces.data.is_labelled:
        judged = [pieces.data.splits[name] for name in pieces.names if name in JUDGED]
        found = torch.cat([split.labels for split in judged]).unique().tolist()
        classes = pieces.data.class_names
        names = [str(classes[number]) if classes else str(number) for number in found]
    elif normal is not None:
        raise SettingError(f"normal={normal}: the examples have no labels")
    chosen = normal_class(names, normal)
    return None if chosen is None else Detection(chosen)


def _said(detection: Detection, where: str) -> str:
    anomalous = int(detection.anomalous.sum())
    return (
        f"AUROC {detection.auroc():.4f}, average precision {detection.average_precision():.4f}:"
        f" {anomalous:,} of {len(detection.anomalous):,} examples {where}are not of the class"
        f" {detection.normal}"
    )


def is_image(card: Card) -> bool:
    """Return whether an example is an image."""
    return len(card.shape) == 3


def shares(errors: Tensor, mse: np.ndarray, card: Card) -> dict[str, np.ndarray]:
    """Return each column's share `(B,)` of the mean squared error of rows, `(B,)`.

    The shares of an example add up to its mse; `errors` `(B, D)` are the squared errors, of which
    a category has several, and a missing entry none.
    """
    each = errors.numpy(force=True)
    values = each * (mse / each.sum(axis=1).clip(np.finfo(np.float32).tiny))[:, None]
    if not isinstance(card, TableCard):
        return {f"share_x{number}": column for number, column in enumerate(values.T)}
    ends = np.cumsum([column.width for column in card.columns])
    parts = np.split(values, ends, axis=1)  # the last are those of a mask, which has no errors
    names = [column.name for column in card.columns]
    return {f"share_{n}": p.sum(axis=1) for n, p in zip(names, parts, strict=False)}


def _maps(errors: Tensor) -> np.ndarray:
    """Return pictures of errors `(B, C, H, W)`: root mean square over channels, 1 is white."""
    return (errors.mean(dim=1, keepdim=True).sqrt().clamp(0, 1) * 255).byte().numpy(force=True)


def _picture(detection: Detection, kind: str, threshold: float | None) -> bytes:
    is_anomalous = detection.anomalous
    values = {
        f"class {detection.normal}": detection.scores[~is_anomalous],
        "other classes": detection.scores[is_anomalous],
    }
    figure = figures.histogram(values, f"score ({kind})", threshold)
    return figures.png(figures.pixels_of(figure))


def _histogram_for(out: Path) -> Path:
    return out.with_suffix(".png")


Writers = tuple[Callable[[Scored], None], Callable[[bytes], Any]]


@contextmanager
def _places(out: Path, config: DictConfig, count: int, has_histogram: bool) -> Iterator[Writers]:
    """Yield what writes a batch, and what writes the histogram; all appears at the end, or none."""
    if not is_folder(config):
        paths = [out, *([_histogram_for(out)] if has_histogram else [])]
        with (
            files.new_files(*paths, overwrite=config.overwrite) as opened_files,
            rows_in(opened_files[0], out.suffix, count, "score") as add,
        ):
            yield lambda scored: add(scored.columns), opened_files[-1].write
        return
    with (
        files.new_folder(out) as folder,
        (folder / TABLE).open("wb") as table,
        rows_in(table, ".csv", count, "score") as add,
        beside(lambda maps: save_pictures(folder / MAPS, *maps)) as add_maps,
    ):

        def both(scored: Scored) -> None:
            add(scored.columns)
            if scored.maps:
                add_maps(scored.maps)

        yield both, (folder / HISTOGRAM).write_bytes
