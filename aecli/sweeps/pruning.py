"""What a run of an Optuna study does with its trial: reports each epoch, ends if it looks bad."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig

from aecli.sweeps.study import open_study, trial_of
from aecli.sweeps.trials import PRUNED


def pruning(config: DictConfig) -> list[Callback]:
    """Return the callbacks that a job of a sweep needs, none outside an Optuna study."""
    if config.sweeper is None or not config.sweeper.prune:
        return []
    hydra = HydraConfig.get()
    return [Pruning(config, Path(hydra.sweep.dir), hydra.job.num)]


class Pruning(Callback):
    """Ends a training that, at the same epoch, is worse than the median of those before it.

    Args:
        config: of the run; its `objective` is what is reported.
        sweep: the sweep's directory.
        number: of the trial.
    """

    def __init__(self, config: DictConfig, sweep: Path, number: int) -> None:
        self.trial = trial_of(open_study(config, sweep), number)
        self.objective = config.objective
        self.has_pruned = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the objective; after a bad epoch let this be the last."""
        value = trainer.callback_metrics.get(f"val/{self.objective.removeprefix('val/')}")
        if value is None:
            return
        self.trial.report(float(value), trainer.current_epoch)
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if not last and self.trial.should_prune():
            self.trial.set_user_attr(PRUNED, True)
            trainer.should_stop = self.has_pruned = True
