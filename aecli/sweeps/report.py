"""What a search has found: printed and drawn at its end."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aecli import files
from aecli.runs.paths import as_typed, shown
from aecli.sweeps.trials import counted

if TYPE_CHECKING:
    import optuna


def report(study: "optuna.Study", sweep: Path, objective: str) -> None:
    """Print the best trial; draw how the study went, and which settings mattered."""
    from optuna.trial import TrialState

    states = [trial.state for trial in counted(study.trials)]
    pruned, failed = states.count(TrialState.PRUNED), states.count(TrialState.FAIL)
    summary = f"{len(states)} trials, {pruned} of them ended early, {failed} failed"
    if TrialState.COMPLETE not in states:
        print(summary)  # noqa: T201
        return
    best = study.best_trial
    given = " ".join(f"{key}={value}" for key, value in best.params.items())
    print(f"{summary}; the best by {objective}: {best.value:.4g}, number {best.number}: {given}")  # noqa: T201
    runs = list(sweep.glob(f"{best.number}_*/metrics.json"))
    if len(runs) == 1:
        print(f"  aecli eval {as_typed('run', runs[0].parent)}")  # noqa: T201
    names = _draw(study, sweep, objective)
    print(f"written: {', '.join(names)} in {shown(sweep)}")  # noqa: T201


def _draw(study: "optuna.Study", sweep: Path, objective: str) -> list[str]:
    import matplotlib as mpl
    from optuna.visualization import matplotlib as plots

    mpl.use("Agg")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    pictures: dict[str, Callable[..., Any]] = {
        "history.png": plots.plot_optimization_history,
        "slices.png": plots.plot_slice,
    }
    if len([t for t in study.trials if t.value is not None]) > 2 and len(study.best_params) > 1:
        pictures["importances.png"] = plots.plot_param_importances
    for name, plot in pictures.items():
        axes = plot(study, target_name=objective)
        first = axes if hasattr(axes, "figure") else axes.flat[0]
        with files.replacing(sweep / name) as file:
            first.figure.savefig(file, format="png", bbox_inches="tight", dpi=120)
    return list(pictures)
