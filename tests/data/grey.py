"""Images of known pixels, and a data module of them."""

import torch

from aecli.data import DataModule, Examples, Records, Scaled, Split


class Grey:
    """`count` training and 30 test images of 1×4×4, of all grey levels; a label is a number."""

    def __init__(self, count=100, maximum=255):
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(maximum + 1, (count + 30, 1, 4, 4), generator=generator)
        pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = 0, maximum
        self.pixels, self.maximum, self.count, self.loads = pixels.byte(), maximum, count, 0

    def labels(self):
        return torch.arange(len(self.pixels))

    def read(self, root, card):
        self.loads += 1
        train, test = torch.arange(len(self.pixels)).tensor_split([self.count])
        return Records(self.pixels, self.labels(), splits={"train": train, "test": test})

    def fit(self, records, rows):
        return Scaled(records.data.shape[1:], self.maximum)

    def images(self, labels):
        return self.pixels[labels] / self.maximum


class Half(Grey):
    """Images of a grey just above the middle, whose draws differ by chance alone."""

    def __init__(self, count):
        super().__init__(count)
        self.pixels = torch.full_like(self.pixels, 128)


def split_of(pixels, labels, maximum=255):
    """Return a split of all these images."""
    card = Scaled(pixels.shape[1:], maximum)
    rows = torch.arange(len(pixels))
    return Split(Examples(pixels, card, labels, rows.numpy()), rows)


def make(source=None, batch_size=16, validation_size=20, **settings):
    module = DataModule(source or Grey(), None, [1, 4, 4], batch_size, validation_size, **settings)
    module.setup()
    return module
