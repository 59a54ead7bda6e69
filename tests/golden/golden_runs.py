"""Runs on scikit-learn's digits whose heads are kept: what `calibrate` and `evaluate` make of them.

The stores are built anew from the digits: `small` has sums of 2 x 2 pixels, `large` every pixel;
both are whole numbers, so that every machine has the same features. `runs/` holds the fitted heads,
which are never made anew, and `runs/expected.json` what came of each question. When a rule is
changed on purpose, `python -m tests.golden.golden_runs` writes that file again; read its diff.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.cache import FeatureStore
from selectkit.pipeline import RunDirectory, calibrate, evaluate
from selectkit.pipeline.cascade import cascade_outputs
from selectkit.policies import CascadePolicy, Decision
from tests.unit.pipeline.pipeline_samples import add_view, store_of

RUNS = Path(__file__).parent / "runs"
EXPECTED = RUNS / "expected.json"


@dataclass(frozen=True)
class Asked:
    """A question to a run.

    Attributes:
        run: Its folder.
        settings: Of `calibrate`.
        stages: Folders of the later runs of a cascade.
    """

    run: str
    settings: dict[str, Any]
    stages: tuple[str, ...] = ()

    @property
    def store(self) -> str:
        """The store of the run."""
        return "digits.zarr" if self.run == "digits" else "high.zarr"


PRICED = {"target": "error=0.03", "stage_costs": "1,4", "human_cost": 50.0}
QUESTIONS = {
    "softmax": Asked("small", {"target": "fnr=0.15"}),
    "softmax, several": Asked("small", {"target": "error=0.2,deferral=0.8"}),
    "softmax, infeasible": Asked("small", {"target": "error=0.001"}),
    "two_sided": Asked("small", {"policy": "two_sided", "target": "fnr=0.3,fpr=0.25"}),
    "two_sided, cost": Asked(
        "small", {"policy": "two_sided", "cost": "miss=10,false_alarm=3,defer=1"}
    ),
    "per_class": Asked("digits", {"policy": "per_class", "target": "error=0.15"}),
    "gate": Asked("gated", {"policy": "gate", "target": "error=0.15,deferral=0.8"}),
    "scrc": Asked("digits", {"policy": "scrc", "target": "error=0.05", "xi": 0.9}),
    "scrc, singletons": Asked(
        "digits",
        {"policy": "scrc", "target": "error=0.1", "variant": "joint", "exits": "singletons"},
    ),
    "cascade": Asked("small", {"policy": "cascade", **PRICED}, ("large",)),
    "auto": Asked("small", {"policy": "auto", **PRICED}, ("large",)),
}


def digits() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The pixels, 0 to 16, shape (1797, 64), and what they show."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return found.data.astype(np.float64), found.target.astype(np.int64)


def stores(folder: Path) -> None:
    """Write both stores: of ten digits, and of digits that are 5 or more."""
    x, y = digits()
    pooled = x.reshape(-1, 4, 2, 4, 2).sum(axis=(2, 4)).reshape(len(x), 16)
    names: dict[str, Sequence[str | None]] = {
        "digits": [str(digit) for digit in y],
        "high": ["high" if digit >= 5 else "low" for digit in y],
    }
    for name, labels in names.items():
        store = store_of(folder / f"{name}.zarr", pooled, labels, rows_per_shard=600)
        add_view(store, "large", x)


def prepare(folder: Path) -> None:
    """Write stores and runs into a folder.

    Args:
        folder: An empty one.
    """
    stores(folder)
    for run in RUNS.iterdir():
        if run.is_dir():
            shutil.copytree(run, folder / run.name)
    calibrate(folder / "large", target="coverage=0.5", store=folder / "high.zarr")


def came_of(name: str, folder: Path) -> dict[str, Any]:
    """Ask a question, and say what came of it.

    Args:
        name: A key of `QUESTIONS`.
        folder: As `prepare` leaves it.

    Returns:
        Decisions on val_calib and val_test, the policy's document, and what `evaluate` measures.
    """
    asked = QUESTIONS[name]
    place = folder / "asked" / str(list(QUESTIONS).index(name))
    for run in RUNS.iterdir():
        if run.is_dir():
            shutil.copytree(folder / run.name, place / run.name)
    run, store = place / asked.run, folder / asked.store
    settings = dict(asked.settings)
    if asked.stages:
        settings["stages"] = ",".join(str(place / stage) for stage in asked.stages)
    answer = calibrate(run, store=store, **settings)
    measured = evaluate(run, store=store, replicates=100, thumbnails=0).document
    document = answer.policy.to_dict()
    points = document.pop("points", [])
    return {
        "rule": answer.policy.rule(),
        "policy": document,
        "certified points": sum(point["certified"] for point in points),
        "tried": [t.to_dict() for t in answer.tried],
        "val_calib": decided(run, store, "val_calib"),
        "val_test": decided(run, store, "val_test"),
        "promises": measured["promises"],
        "operating": {
            key: estimate["value"] for key, estimate in measured["metrics"]["operating"].items()
        },
    }


def decided(run: Path, store: Path, split: str) -> dict[str, Any]:
    """What the active policy of a run says of the rows of a split, one sign or word for each."""
    opened = RunDirectory.open(run)
    policy, document = opened.policy()
    if isinstance(policy, CascadePolicy):
        decision = policy.decide(cascade_outputs(opened, document, split, store)[1])
    else:
        cache: FeatureStore = opened.store(store)
        decision = policy.decide(opened.outputs(cache, split, opened.calibrator()[0])[1])
    return {
        "accepted": signs(decision.accepted),
        "prediction": signs(decision.prediction),
        "stage": None if decision.stage is None else signs(decision.stage),
        "sets": " ".join(_sets(decision)),
    }


def signs(values: npt.NDArray[Any]) -> str:
    """One digit for each row."""
    return "".join(map(str, values.astype(int).tolist()))


def _sets(decision: Decision) -> list[str]:
    """The classes in the set of each row; a dash for all of them."""
    return [
        "-" if row.all() else "".join(map(str, np.flatnonzero(row).tolist()))
        for row in decision.prediction_set
    ]


def main() -> None:
    """Write what is expected."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        found = {name: came_of(name, Path(folder)) for name in QUESTIONS}
    text = json.dumps(found, indent=1, allow_nan=False) + "\n"
    EXPECTED.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
