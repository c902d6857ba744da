"""What `aecli eval` says of a dictionary's latents: firing rates, and pages of their top rows."""

from typing import Any, NamedTuple

from omegaconf import DictConfig
from rich.table import Column, Table
from torch import Tensor

from aecli import figures
from aecli.errors import SettingError
from aecli.evaluation.latents import by_decade, check_shown, latents_of, sampled
from aecli.evaluation.latents_page import Page
from aecli.evaluation.origins import Origins
from aecli.models import Dictionary
from aecli.models.dictionary_sums import DictionaryLosses
from aecli.models.losses import SplitLosses
from aecli.progress import Items, Tracked
from aecli.runs.load import Loaded

NAME = "top_rows"


class Latents(NamedTuple):
    """What was found of the latents on the N rows of the test split."""

    rates: dict[str, Any]
    """N, and how many latents have a firing rate in each range."""
    table: Table
    picture: Tensor
    logarithms: Tensor
    """log₁₀ of the firing rates, `(n,)`; of a dead latent that of half a row."""
    pages: dict[str, bytes]
    """By their names."""


class LatentsReport:
    """Says what a dictionary's latents do; nothing of another model.

    Raises `SettingError` for settings that do not go with the run, and tokens that do not go with
    its rows.
    """

    def __init__(self, loaded: Loaded, settings: DictConfig) -> None:
        self.loaded, self.settings = loaded, settings
        for key in ("top_rows", "latents"):
            if settings[key] is not None and not isinstance(loaded.model, Dictionary):
                raise SettingError(
                    f"eval.{key}={settings[key]}: is for sparse dictionaries, such as"
                    f" model=topk_sae; the run is of model={loaded.choices['model']}"
                )
        check_shown(settings.top_rows, settings.latents, loaded.model.code_dim)
        self.origins = None if settings.top_rows is None else Origins(loaded)

    def __call__(self, losses: SplitLosses, batches: Items) -> Latents | None:
        """Return what is known from the sums of the test split, and from one more pass over it."""
        if not isinstance(losses, DictionaryLosses):
            return None
        rates, rows = losses.activity.rates.cpu(), losses.activity.count
        counts = by_decade(rates)
        table = Table("firing rate", Column("latents", justify="right"), title_justify="left")
        table.title = f"latents by their firing rates, on {rows:,} rows"
        for name, count in counts.items():
            table.add_row(name, f"{count:,}")
        choices = self.loaded.choices
        title = f"{choices['model']} on {choices['dataset']}"
        picture = figures.pixels_of(figures.firing_rates(rates.numpy(), rows, title))
        logarithms = rates.clamp_min(0.5 / rows).log10()
        pages = self._pages(title, rates, rows, counts, batches)
        return Latents({"rows": rows, **counts}, table, picture, logarithms, pages)

    def _pages(
        self, title: str, rates: Tensor, rows: int, counts: dict[str, int], batches: Items
    ) -> dict[str, bytes]:
        model, settings = self.loaded.model, self.settings
        if self.origins is None or not isinstance(model, Dictionary):
            return {}
        numbers = sampled(rates) if settings.latents is None else list(settings.latents)
        tracked = Tracked(batches, f"looking for the top rows of {len(numbers)} latents")
        found = latents_of(model, tracked, numbers, settings.top_rows)
        places = sorted({active.place for latent in found for active in latent.rows})
        origins = {place: self.origins.of(place) for place in places}
        page = Page(title, rows, counts, found, origins)
        return {f"{NAME}.html": page.html(), f"{NAME}.csv": page.csv()}
