"""Data: sources of images, and the in-memory DataModule that makes batches of them."""

from aecli.data.module import Batch, Batches, InMemoryDataModule
from aecli.data.sources import Digits, IDXFiles, Images

__all__ = ["Batch", "Batches", "Digits", "IDXFiles", "Images", "InMemoryDataModule"]
