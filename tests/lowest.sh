#!/usr/bin/env bash
# The suite's core with the lowest versions that pyproject.toml allows, in a new environment.
# What starts many processes is left out: it tests aecli's own ways, not its dependencies'.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv"
"$venv/bin/python" tests/lowest.py > "$venv/constraints.txt"
"$venv/bin/pip" install -q -c "$venv/constraints.txt" -e ".[sweep,slurm,table,hdf5,export]" "pytest>=8" "pytest-xdist>=3"
# Old versions may warn of what is deprecated in new ones: no warning is an error here.
OMP_NUM_THREADS=1 GOMP_SPINCOUNT=100 "$venv/bin/pytest" -q -m "not slow" -o filterwarnings= \
  tests/data/test_idx.py tests/data/test_module.py tests/data/test_sources.py tests/evaluation \
  tests/models tests/pretraining tests/runs/test_runs.py tests/sweeps/test_trials.py \
  tests/training tests/test_*s.py tests/test_estimator.py --ignore=tests/training/test_tensorboard.py \
  --ignore=tests/evaluation/test_latents_page.py
