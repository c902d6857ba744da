"""Colours for lines and points that people with any colour vision tell apart. No torch here."""

COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
"""Ten, in the order in which they are taken (Petroff 2021, arXiv 2107.02270)."""
