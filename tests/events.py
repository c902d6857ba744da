"""What TensorBoard's event files hold, for tests that compare runs."""

from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData


def events(directory: Path) -> EventAccumulator:
    """Read all that a run logged."""
    return EventAccumulator(str(directory), size_guidance={"scalars": 0, "images": 0}).Reload()


def scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the steps and values of each tag, by step: files of one second are read in any order.

    A step that is logged twice with the same value, before and after an interruption, counts once.
    """
    read = events(directory)
    return {
        tag: sorted({(point.step, point.value) for point in read.Scalars(tag)})
        for tag in read.Tags()["scalars"]
    }


def hparams_of(directory: Path) -> tuple[Any, Any]:
    """Return what is known of a run's tags, and the settings that its HPARAMS have."""
    metadata = events(directory).summary_metadata
    content = metadata["_hparams_/session_start_info"].plugin_data.content
    return metadata, HParamsPluginData.FromString(content).session_start_info.hparams
