"""Data: sources of examples, data cards, and the DataModule that makes batches of them."""

from aecli.data.activations import ActivationData
from aecli.data.array import ArrayData
from aecli.data.array_card import ArrayCard
from aecli.data.batches import Batch, Batches
from aecli.data.images import ImageCard, ImageData
from aecli.data.module import DataModule
from aecli.data.records import Card, Records, Scaled, Source
from aecli.data.sources import Digits, IDXFiles
from aecli.data.splits import Examples, Split
from aecli.data.synthetic import Drawn, SyntheticData
from aecli.data.table import TableData
from aecli.data.table_card import TableCard
from aecli.data.target_card import TargetCard

__all__ = [
    "ActivationData",
    "ArrayCard",
    "ArrayData",
    "Batch",
    "Batches",
    "Card",
    "DataModule",
    "Digits",
    "Drawn",
    "Examples",
    "IDXFiles",
    "ImageCard",
    "ImageData",
    "Records",
    "Scaled",
    "Source",
    "Split",
    "SyntheticData",
    "TableCard",
    "TableData",
    "TargetCard",
]
