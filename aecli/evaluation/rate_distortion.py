"""The rate and the distortion of a sweep's models over β, as a picture."""

import logging
import math
from collections.abc import Mapping
from contextlib import suppress
from os.path import commonpath
from pathlib import Path

from aecli import figures, files
from aecli.errors import SettingError
from aecli.evaluation import charts
from aecli.runs.find import Run
from aecli.runs.paths import CONFIG, shown
from aecli.text import one_line
from aecli.untrusted import read_yaml

log = logging.getLogger(__name__)

NAME = "rate_distortion.png"


def draw_rate_distortion(results: Mapping[Run, Mapping[str, float]]) -> None:
    """Write `rate_distortion.png` beside the runs, if they have two values of β or more.

    A point a run: rate = KL(q(z|x) ‖ p(z)), distortion = −log p(x|z) of the test split, in nats
    (Alemi et al. 2018, arXiv 1711.00464). Their sum is −ELBO; a larger β buys a smaller rate.
    """
    points = []
    for run, values in results.items():
        beta = _beta(run)
        if beta is not None and {"kl", "nll"} <= values.keys():
            points.append((beta, values["kl"], values["nll"]))
    if len({beta for beta, *_ in points}) < 2:
        return
    folder = Path(commonpath([str(run.directory.parent.absolute()) for run in results]))
    points.sort(key=lambda point: point[1])
    picture = figures.pixels_of(charts.rate_distortion(points, one_line(folder.name)))
    log.info("written: %s", shown(files.write(folder / NAME, figures.png(picture))))


def _beta(run: Run) -> float | None:
    with suppress(OSError, SettingError, AttributeError):  # whatever a stranger's run has there
        beta = read_yaml(run.directory / CONFIG).get("model").get("beta")
        if isinstance(beta, int | float) and math.isfinite(beta):
            return float(beta)
    return None
