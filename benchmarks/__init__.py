"""Long measurements whose results stand in docs/."""
