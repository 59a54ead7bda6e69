"""Where the figures of a report come from, and how to make them again."""

import platform
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from selectkit import __version__, artifact
from selectkit.config import EvaluateConfig
from selectkit.pipeline.judging import Tested
from selectkit.pipeline.run import RunDirectory


def provenance(test: Tested, config: EvaluateConfig) -> dict[str, str]:
    """Return hashes, versions and counts, by name.

    Args:
        test: The test split, and what was decided about it.
        config: Settings of the evaluation.

    Returns:
        What a report says of where its figures come from.
    """
    run, store, rows = test.run, test.store, test.rows
    views = [store.view(name) for name in run.head.view.split("+")]
    backbones = " and ".join(str(view.fingerprint.get("id", "unknown")) for view in views)
    stages = {
        f"stage {i + 1}": f"{stage['name']}: {stage['run']}, {stage['head']}"
        for i, stage in enumerate(test.document.get("stages", ()))
    }
    return {
        "selectkit": f"{__version__}; Python {platform.python_version()}, NumPy {np.__version__}",
        "store": f"{store.path.name}, {store.rows:,} rows",
        "view": f"{run.head.view} ({backbones}), {run.head.document['view_hash']}",
        "head": run.head.hash,
        "calibrator": _calibrator(run),
        "policy": artifact.content_hash(test.document),
        "rule": test.policy.rule(),
        **stages,
        "val_test": f"{len(rows.y):,} labelled images, {rows.fingerprint}",
        "bootstrap": f"{config.replicates:,} replicates, seed {config.seed}",
    }


def _calibrator(run: RunDirectory) -> str:
    fitted, content = run.calibrator()
    chosen = run.config.calibrate.calibrator == "auto"
    why = ", chosen by cross-validated log loss on val_select" if chosen else ""
    return f"{fitted.method}{why}, {content}"


def commands(run: RunDirectory, config: EvaluateConfig) -> tuple[str, ...]:
    """Return shell commands that make the run and its report again.

    Args:
        run: The run.
        config: Settings of the evaluation.

    Returns:
        One line each.
    """
    fit, calibrate = run.config.fit, run.config.calibrate
    name, store = run.path.resolve().name, Path(run.config.store or "").name
    return (
        f"selectkit extract SOURCE --out {store}    # backbone and preprocessing: see the view",
        f"selectkit fit {store} --out {name}{_flags(fit)}",
        f"selectkit calibrate {name}{_flags(calibrate)}",
        f"selectkit evaluate {name}{_flags(config)}",
    )


def _flags(config: Any) -> str:
    """The settings that differ from their defaults, as flags."""
    default = type(config)()
    parts = []
    for key, value in vars(config).items():
        if value == getattr(default, key):
            continue
        flag = key.replace("_", "-")
        if isinstance(value, bool):
            parts.append(f" --{flag}" if value else f" --no-{flag}")
        else:
            parts.append(f" --{flag} {shlex.quote(str(value))}")
    return "".join(parts)
