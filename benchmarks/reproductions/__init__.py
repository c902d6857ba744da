"""Runs the experiments of the papers and writes docs/reproductions.md and its picture."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "reproductions.md"
RESULTS = REPOSITORY / "docs" / "reproductions"
"""The results, a file a run: `PAPER/EXPERIMENT/seed-N.json`. The page is from these alone."""
OUTPUTS = Path("outputs") / "reproductions"
"""The runs themselves, `PAPER/EXPERIMENT/seed-N/…`: not kept in the repository."""
