"""Runs made up for the tests of `aecli compare`, and what it prints of them."""

import json

import yaml


def make(folder, name, loss, model="vae", beta=1.0, seed=0, settings=None, **metrics):
    """Write what a finished run leaves behind, but for its weights.

    `settings` are those of its configuration by their keys; `metrics` are of the test.
    """
    run = folder / name
    (run / ".hydra").mkdir(parents=True)
    config = {
        "dataset": {"_target_": "x.Data", "root": f"/{name}", "binarize": "none"},
        "network": {"hidden": [400], "shape": "${dataset.shape}"},
        "model": {"_target_": f"x.{model}", "beta": beta, "network": "${network}"},
        "seed": seed,
        "output_dir": str(folder),
    }
    for key, value in (settings or {}).items():
        *groups, last = key.split(".")
        node = config
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = value
    (run / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
    typed = [f"model={model}", f"model.beta={beta}", f"seed={seed}", f"output_dir={folder}"]
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(typed))
    stored = {"choices": {"model": model, "likelihood": "bernoulli"}, "epochs": 3}
    stored["val"] = {"loss": loss, "mse": loss / 100}
    if metrics:
        stored["test"] = {"seed": 0, **metrics}
    (run / "metrics.json").write_text(json.dumps(stored))
    return run


def change(run, **parts):
    """Add to what a run's `metrics.json` holds."""
    path = run / "metrics.json"
    stored = json.loads(path.read_text())
    for name, value in parts.items():
        is_part = isinstance(value, dict) and isinstance(stored.get(name), dict)
        stored[name] = stored[name] | value if is_part else value
    path.write_text(json.dumps(stored))


def table(capsys):
    lines = capsys.readouterr().out.splitlines()
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]


def head_and_rows(capsys):
    """Return the printed rows, each a dict by the heads of the columns, and the lines below."""
    lines = capsys.readouterr().out.splitlines()
    (head,) = [[c.strip() for c in line.split("┃")[1:-1]] for line in lines if "┃" in line]
    rows = [[c.strip() for c in line.split("│")[1:-1]] for line in lines if "│" in line]
    below = lines[next(i for i, line in enumerate(lines) if line.startswith("└")) + 1 :]
    return [dict(zip(head, row, strict=True)) for row in rows], below
