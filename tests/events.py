"""What TensorBoard's event files hold, for tests that compare runs."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


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
