"""Sweeps: the sweeper, the pruner, and what Hydra calls around runs and sweeps."""
