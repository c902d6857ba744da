"""Several processes that train one model: this process's rank, and collectives over all ranks.

Lightning starts this program again for each further device; torchrun and srun start all processes
at once. Rank 0 is the one that writes.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from threading import Thread, Timer
from typing import TYPE_CHECKING, Any, NamedTuple

from aecli.errors import SettingError

if TYPE_CHECKING:
    from torch import Tensor

SPECIAL_STEPS = 2**32 - 16
"""From here on Slurm's step numbers mean no srun of the user, but a batch script or a shell."""


WAIT = timedelta(minutes=30)
"""How long the processes of a run wait for each other; torch's default."""
SILENT = 5.0
"""Seconds of waiting after which a process says what it waits for."""


class Launched(NamedTuple):
    """The processes that torchrun or srun started."""

    per_node: int
    nodes: int


def launched() -> Launched | None:
    """Return how many processes torchrun or srun started; None if neither started several.

    A batch script of Slurm sees the number of tasks as well, though it is one process: only what
    srun starts is part of a step. In a shell that `srun --pty bash` opened, one types by hand.
    """
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        per_node, processes = int(env["LOCAL_WORLD_SIZE"]), int(env["WORLD_SIZE"])
        return Launched(per_node, processes // per_node)
    tasks = int(env.get("SLURM_NTASKS", 1))
    in_step = int(env.get("SLURM_STEP_ID", SPECIAL_STEPS)) < SPECIAL_STEPS
    if tasks > 1 and in_step and env.get("SLURM_JOB_NAME") != "bash":
        nodes = int(env.get("SLURM_NNODES", 1))
        return Launched(tasks // nodes, nodes)
    return None


def prepare_for_lightning() -> None:
    """Let Lightning see what `launched` sees; it reads Slurm's variables in another way.

    It demands `--ntasks-per-node` of srun, and takes a batch script with several tasks for one of
    srun's processes, which would wait for the others for ever.

    Raises `SettingError` if srun started more processes on one node than on another.
    """
    env = os.environ
    together = launched()
    if together is None:
        if int(env.get("SLURM_NTASKS", 1)) > 1 and env.get("SLURM_JOB_NAME") != "bash":
            env["SLURM_JOB_NAME"] = "interactive"  # Lightning's name for "not by srun"
    elif "SLURM_STEP_ID" in env and "TORCHELASTIC_RUN_ID" not in env:
        env["SLURM_JOB_NAME"] = "aecli"
        env["SLURM_NTASKS_PER_NODE"] = str(together.per_node)
        if "," in env.get("SLURM_STEP_TASKS_PER_NODE", ""):  # such as 2,1
            raise SettingError(
                f"srun: {env['SLURM_NTASKS']} tasks on {together.nodes} nodes; must be as many on"
                " each: say how many by --ntasks-per-node"
            )


def rank() -> int:
    """Return this process's rank among those that train together."""
    if launched():
        return int(os.environ.get("RANK") or os.environ["SLURM_PROCID"])
    return int(os.environ.get("LOCAL_RANK", 0))


def is_first_here() -> bool:
    """Return whether this process is the first on its machine of those that train together."""
    srun = launched() and "TORCHELASTIC_RUN_ID" not in os.environ
    return int(os.environ.get("SLURM_LOCALID" if srun else "LOCAL_RANK", 0)) == 0


@cache
def end_with_parent() -> None:
    """End this process as soon as its parent has ended; a second call does nothing."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def end_children() -> None:
    """Kill the processes that this one started, such as the jobs of a sweep side by side."""
    from psutil import NoSuchProcess, Process

    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # threads may still be writing to them
    for process in Process().children(recursive=True):
        with suppress(NoSuchProcess):
            # These keep count of what is shared, and end with this process; without one, Python
            # warns and starts another.
            if "resource_tracker" not in " ".join(process.cmdline()):
                process.kill()


def agree(text: str) -> str:
    """Broadcast rank 0's text to every rank; blocks until all have called."""
    import torch
    from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
    from torch import distributed

    if not distributed.is_initialized():  # Lightning takes this group afterwards
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
    box = [text]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


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
            f"{processes} processes train together, and not all of them reached {place} within"
            f" {minutes:g} minutes"
        ) from error
    finally:
        timer.cancel()


def are_several() -> bool:
    """Return whether this process is in a group of several at this moment."""
    from torch import distributed

    return distributed.is_initialized() and distributed.get_world_size() > 1


def processes() -> int:
    """Return how many processes there are in the group of this one."""
    from torch import distributed

    return distributed.get_world_size() if are_several() else 1


def total(values: "Tensor") -> "Tensor":
    """Return the sum over all ranks, without a gradient; the values themselves if there is one."""
    from torch import distributed

    if not are_several():
        return values
    values = values.detach().clone()
    distributed.all_reduce(values)
    return values


def largest(values: "Tensor") -> "Tensor":
    """Return the elementwise maximum over all processes; the values themselves if alone."""
    from torch import distributed

    if not are_several():
        return values
    values = values.detach().clone()
    distributed.all_reduce(values, distributed.ReduceOp.MAX)
    return values


def gathered(value: Any) -> list[Any]:
    """Return the values of all ranks, in their order."""
    from torch import distributed

    if not are_several():
        return [value]
    values = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def lost_connection(error: Exception) -> bool:
    """Return whether an error of one of several processes only says that another has ended."""
    distributed = sys.modules.get("torch.distributed")  # not imported for this question
    if distributed is None or not ("WORLD_SIZE" in os.environ or distributed.is_initialized()):
        return False
    gone = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
    return isinstance(error, distributed.DistError) or any(text in str(error) for text in gone)


def leave() -> None:
    """Leave the process group."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()
