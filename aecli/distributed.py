"""Several processes that train one model: which of them this is, and what they know together.

They come from Lightning, which starts this program again for each further device, or from torchrun
or srun, which start all of them at once. Process 0 is the one that writes.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Thread, Timer
from typing import TYPE_CHECKING, Any, NamedTuple

from aecli.errors import SettingError

if TYPE_CHECKING:
    from torch import Tensor


WAIT = timedelta(minutes=30)
"""How long the processes of a run wait for each other; torch's default."""
SILENT = 5.0
"""Seconds of waiting after which a process says what it waits for."""


class Launched(NamedTuple):
    """The processes that torchrun or srun started."""

    a_node: int
    nodes: int


def launched() -> Launched | None:
    """Return how many processes torchrun or srun started; None if it was neither."""
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        a_node, all_of_them = int(env["LOCAL_WORLD_SIZE"]), int(env["WORLD_SIZE"])
        return Launched(a_node, all_of_them // a_node)
    tasks = int(env.get("SLURM_NTASKS", 1)) if "SLURM_PROCID" in env else 1
    if tasks > 1 and env.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        nodes = int(env.get("SLURM_NNODES", 1))
        return Launched(tasks // nodes, nodes)
    return None


def rank() -> int:
    """Return this process's number among those that train together."""
    if launched():
        return int(os.environ.get("RANK") or os.environ["SLURM_PROCID"])
    return int(os.environ.get("LOCAL_RANK", 0))


def end_with_parent() -> None:
    """End this process when the one that started it has gone, however that ended."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def agree(text: str) -> str:
    """Return what process 0 has, to all that torchrun or srun started; they wait for each other."""
    import torch
    from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
    from torch import distributed

    if not distributed.is_initialized():  # Lightning then takes this group
        torchrun = "TORCHELASTIC_RUN_ID" in os.environ
        environment = TorchElasticEnvironment() if torchrun else SLURMEnvironment()
        os.environ["MASTER_ADDR"] = environment.main_address
        os.environ["MASTER_PORT"] = str(environment.main_port)
        with _waiting(environment.global_rank(), environment.world_size()):
            distributed.init_process_group(
                "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
                rank=environment.global_rank(),
                world_size=environment.world_size(),
                timeout=WAIT,
            )
    told = [text]
    distributed.broadcast_object_list(told, src=0)
    return told[0]


@contextmanager
def _waiting(own_rank: int, processes: int) -> Iterator[None]:
    """Say after a few seconds what this process waits for; raise `SettingError` if in vain."""
    from torch import distributed

    place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    minutes = WAIT.total_seconds() / 60
    line = (
        f"aecli: rank {own_rank} of {processes} waits at {place} for the others, for up to"
        f" {minutes:g} minutes"
    )
    timer = Timer(SILENT, lambda: print(line, file=sys.stderr))  # noqa: T201
    timer.daemon = True
    timer.start()
    try:
        yield
    except distributed.DistError as error:
        raise SettingError(
            f"{processes} processes were to train together; not all of them came to {place} within"
            f" {minutes:g} minutes"
        ) from error
    finally:
        timer.cancel()


def are_several() -> bool:
    """Tell whether this process is training together with others at this moment."""
    from torch import distributed

    return distributed.is_initialized() and distributed.get_world_size() > 1


def total(values: "Tensor") -> "Tensor":
    """Return the sum over all processes, without a gradient; the values themselves if alone."""
    from torch import distributed

    if not are_several():
        return values
    values = values.detach().clone()
    distributed.all_reduce(values)
    return values


def gathered(value: Any) -> list[Any]:
    """Return what each process has, in the order of their numbers."""
    from torch import distributed

    if not are_several():
        return [value]
    values = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def lost_connection(error: Exception) -> bool:
    """Tell whether an error only says that another process has gone."""
    from torch import distributed

    gone = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
    return isinstance(error, distributed.DistError) or any(text in str(error) for text in gone)


def leave() -> None:
    """Go on alone."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()
