#!/usr/bin/env bash
# The suite's core on another Python, if one is at hand: other_python.sh 3.13
# Skipped, with a line that says why, where there is no such Python or only a torch with CUDA for it.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1
python=python$version
# pyenv puts a name for every version on PATH, which answers only where that version is chosen.
if ! "$python" -c "" 2> /dev/null && command -v pyenv > /dev/null; then
  python=$(ls "$(pyenv root)"/versions/"$version".*/bin/python 2> /dev/null | tail -n 1)
fi
if ! "$python" -c "" 2> /dev/null; then
  echo "skipped: no python$version here"
  exit
fi
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
"$python" -m venv "$venv"
# A torch from elsewhere than a CPU build brings several GB of CUDA packages.
torch=$("$venv/bin/pip" install -q --dry-run --report - --no-deps -c constraints.txt torch 2> /dev/null \
  | "$venv/bin/python" -c "import json, sys; print(json.load(sys.stdin)['install'][0]['metadata']['version'])" || true)
if [[ $torch != *+cpu && $(uname -s) = Linux ]]; then
  echo "skipped: no CPU build of torch for Python $version (found: ${torch:-none})"
  exit
fi
"$venv/bin/pip" install -q -c constraints.txt -e ".[sweep,slurm,table,hdf5,export]" "pytest>=8" "pytest-xdist>=3"
"$venv/bin/pytest" -q tests/data tests/evaluation tests/models tests/pretraining tests/runs \
  tests/training tests/test_cli.py tests/test_conf.py
