"""The study of a search: Optuna's record of its trials, in a file or a database."""

import os
import re
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from zlib import crc32

from omegaconf import DictConfig

from aecli import files
from aecli.errors import SettingError, check_bool, check_seed
from aecli.patterns import expanded
from aecli.runs.records import more_is_better
from aecli.text import first_line, installs

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, Trial

STUDY = "aecli"
STORAGE = "study.log"
"""Optuna's journal in the sweep's directory."""
IDENTITY = "study.id"
"""The file in the sweep's directory by which its trials are known in a shared study."""
OBJECTIVE, RETRY_OF = "objective", "retry of"
"""What a study, and a trial, is marked with."""
HEARTBEAT, GRACE = 5, 30
"""Seconds between two signs of life of a trial in a database, and from the last until others take
the trial over."""
BEGINS = b'{"op_code"'
"""How each line of a journal begins."""
BLOCK = 1 << 16
"""Bytes that are looked at together for the end of a line."""
CONNECT_SECONDS = 5
"""Until a database server that does not answer counts as unreachable."""


def open_study(config: DictConfig, sweep: Path) -> "optuna.Study":
    """Return the study of a sweep: a new one, or the one there is in the storage.

    Raises `SettingError` if the storage cannot be reached, or if Optuna is not installed.
    """
    settings = config.sweeper
    seed = check_seed("sweeper.seed", settings.seed)
    prune = check_bool("sweeper.prune", settings.prune)
    try:
        import optuna
    except ImportError as error:
        raise SettingError(f"sweeper=optuna: not installed; {installs('sweep')}") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    pruner = optuna.pruners.MedianPruner(n_warmup_steps=config.trainer.max_epochs // 4)
    study = optuna.create_study(
        storage=_storage(settings.storage or str(sweep / STORAGE)),
        study_name=settings.study or STUDY,
        direction="maximize" if more_is_better(config.objective) else "minimize",
        load_if_exists=True,
        pruner=pruner if prune else optuna.pruners.NopPruner(),
    )
    # Other draws than those before, and than those of other machines; runs beside each other count
    # as bad until they are done.
    seed += len(study.trials) + (crc32(identity(sweep).encode()) if settings.storage else 0)
    study.sampler = optuna.samplers.TPESampler(seed=seed % 2**32, constant_liar=True)
    before = study.user_attrs.get(OBJECTIVE, config.objective)
    if before != config.objective:
        raise SettingError(
            f"sweeper.study={study.study_name}: that study has objective={before}; give this one"
            " another name"
        )
    study.set_user_attr(OBJECTIVE, config.objective)
    return study


def identity(sweep: Path) -> str:
    """Return this sweep's name among those of a study; it moves with the directory."""
    path = sweep / IDENTITY
    if not path.is_file():
        files.write(path, f"{uuid4()}\n")
    return path.read_text().strip()


def trial_of(study: "optuna.Study", number: int) -> "Trial":
    """Return a trial that another process has asked for.

    Optuna makes a `Trial` of a storage's id, which only the private `_trial_id` gives.
    """
    from optuna.trial import Trial

    return Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)


def gives_signs_of_life(study: "optuna.Study") -> bool:
    """Return whether the storage is a database, which records each trial's last sign of life."""
    return hasattr(study._storage, "record_heartbeat")


def give_sign_of_life(study: "optuna.Study", number: int) -> None:
    """Tell the database that a trial is still running; Optuna does so only in its own loop."""
    trial = study.get_trials(deepcopy=False)[number]
    study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]


def _storage(place: str) -> "BaseStorage":
    """Return the storage at a path or a database's URL.

    Raises `SettingError` if it cannot be reached, without the password that the URL may hold.
    """
    try:
        return _database(place) if "://" in place else _journal(expanded(place))
    except Exception as error:  # whatever a database's driver can raise
        if isinstance(error, ValueError) and "://" not in place:
            raise SettingError(
                f"sweeper.storage={place}: damaged ({first_line(error)}); move it away, and the"
                " sweep begins a new study"
            ) from error
        lines = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        raise SettingError(
            f"sweeper.storage={without_password(place)}: cannot be reached"
            f" ({without_password(lines[0])})"
        ) from error


def _journal(path: Path) -> "BaseStorage":
    """Return the storage in a file, to which each of several processes appends lines.

    A full disk, or a power cut, can leave half a line at its end, to which the next would be glued:
    who gets the lock to append cuts it off.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    _check_journal(path)

    class Lock(JournalFileSymlinkLock):
        def acquire(self) -> bool:
            is_held = super().acquire()
            try:
                _cut_half_line(path)
            except BaseException:
                self.release()
                raise
            return is_held

    return JournalStorage(JournalFileBackend(str(path), Lock(str(path))))


def _check_journal(path: Path) -> None:
    """Refuse a file that is there and is no journal: it is somebody's, and would be written to."""
    if not path.exists():
        return
    if not path.is_file():
        raise ValueError("is no ordinary file")
    with path.open("rb") as file:
        first = file.readline(BLOCK)
    if not first.startswith(BEGINS[: len(first)]):
        raise ValueError("is no journal of Optuna")


def _cut_half_line(path: Path) -> None:
    with path.open("r+b") as file:
        end = place = file.seek(0, os.SEEK_END)
        while place > 0:
            start = max(0, place - BLOCK)
            file.seek(start)
            newline = file.read(place - start).rfind(b"\n")
            if newline >= 0:
                place = start + newline + 1
                break
            place = start
        if place < end:
            file.truncate(place)


def _database(url: str) -> "BaseStorage":
    from optuna.storages import RDBStorage
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    # Optuna gives signs of life only within its own loop; here `Trials` does.
    warnings.filterwarnings("ignore", "Heartbeat of storage is supposed to be used")
    waits = make_url(url).get_backend_name() == "postgresql"
    options: dict[str, Any] = {
        "engine_kwargs": {"connect_args": {"connect_timeout": CONNECT_SECONDS}} if waits else {},
        "heartbeat_interval": HEARTBEAT,
        "grace_period": GRACE,
        "heartbeat_stale_trial_callback": try_again,
    }
    try:
        return RDBStorage(url, **options)
    except (IntegrityError, ProgrammingError):
        # Two machines made the tables of an empty database at the same moment; one was first.
        time.sleep(1)
        return RDBStorage(url, **options)


def try_again(study: "optuna.Study", trial: "FrozenTrial") -> None:
    """Queue the settings of a trial whose machine has gone."""
    study.enqueue_trial(trial.params, user_attrs={RETRY_OF: trial.number})


def without_password(text: str) -> str:
    """Return a text with `***` for the password of a URL in it."""
    text = re.sub(r"(password=)[^&\s]+", r"\1***", text)
    before, colon, rest = text.partition("://")
    user, at, place = rest.rpartition("@")
    if not (colon and at and ":" in user):
        return text
    return f"{before}://{user.partition(':')[0]}:***@{place}"
