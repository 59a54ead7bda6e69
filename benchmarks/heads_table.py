"""Which losses and scores rank predictions best, and which differences are more than chance?

Run `python -m benchmarks.heads_table --data ../shared/data > benchmarks/results/heads_table.jsonl`;
`benchmarks/results/heads_table.md` is written beside it. Features are those of the embedded `tiny`
backbone, class token and mean of patches side by side: a random network, so accuracies are low and
errors many, which is good for telling scores apart and says nothing about DINOv3. Everything is
fitted on train, chosen on val_select, and judged once on val_test; scores are calibrated as the
commands do it. Trained heads are means over five seeds, each loss at the learning rate, of three,
with the smallest mean NLL on val_select; all seeds and rates are trained in one pass.

Three families of questions were fixed before anything was looked at, each corrected by Holm over
all data sets: every loss against cross-entropy (mlp), both ranked by msp; every trained gate
against msp of the same head; every other score against msp, on the mlp head.
"""

import argparse
import csv
import json
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._figures import commit, machine
from benchmarks._heads_statistics import METRICS, Cell, Draws, difference, draws_of, interval
from selectkit import heads
from selectkit.cache import Features, FeatureStore, SplitScheme
from selectkit.calibrate import Identity, Temperature
from selectkit.config import FitConfig
from selectkit.errors import CalibrationError, DataError
from selectkit.metrics import holm
from selectkit.pipeline.criteria import criterion
from selectkit.pipeline.extract import extract
from selectkit.pipeline.recipes import SIMPLE, TRAINED, recipe_of
from selectkit.pipeline.scores import calibrated_gate
from selectkit.policies import FITTED, SCORES, Outputs, TrainRows

ROOT = Path(__file__).resolve().parents[1]
SPLIT = SplitScheme(fractions=(0.5, 0.2, 0.0, 0.3))
SEEDS = 5
REFERENCE, REPLICATES, MANY = "cross-entropy", 1000, 10_000
TRAINING = {"hidden": 256, "epochs": 60, "patience": 60, "batch_size": 128}
RATES = (3e-4, 1e-3, 3e-3)


def configurations(n_classes: int) -> dict[str, FitConfig]:
    """Return every loss by name."""
    mlp = FitConfig(head="mlp", **TRAINING)  # type: ignore[arg-type]
    three, abstain = replace(mlp, head="three"), replace(mlp, head="abstain")
    payoff = 1.5 if n_classes == 2 else 2.2  # the value the authors chose for ten classes
    return {
        REFERENCE: mlp,
        "smoothing 0.1": replace(mlp, smoothing=0.1),
        "focal 2": replace(mlp, loss="focal"),
        "balanced": replace(mlp, class_weights="balanced"),
        "Friendly SAM": replace(mlp, sam_rho=0.1),
        "SelectiveNet 0.8": three,
        "SelectiveNet 0.8, code": replace(three, unnormalised=True),
        "SelectiveNet 0.8, risk": replace(three, risk_target=0.02),
        "gamblers": replace(abstain, loss="gamblers", payoff=payoff),
        "self-adaptive": abstain,
        "self-adaptive, entropy": replace(abstain, entropy=1e-3),
        "linear": FitConfig(head="linear"),
        "ridge": FitConfig(head="ridge"),
        "prototype": FitConfig(head="prototype"),
        "knn": FitConfig(head="knn"),
    }


@dataclass(frozen=True)
class Data:
    """One data set in its three splits."""

    name: str
    train: Features
    select: Features
    test: Features

    @property
    def groups(self) -> Any:
        """Codes of the groups of the test rows."""
        return np.unique(self.test.groups.astype(str), return_inverse=True)[1]


def cells_of(data: Data, loss: str, config: FitConfig) -> list[Cell]:
    """Fit one loss from every seed, and judge every score on the test rows."""
    k = len(data.train.classes)
    train = (data.train.x, data.train.y)
    held_out = (data.select.x, data.select.y)
    if config.head in SIMPLE:
        fitted: Sequence[Any] = [SIMPLE[config.head].fit(*train, select=held_out, n_classes=k)]
    else:
        fitted = _tuned(data, config)
    judged = [_judged(data, head) for head in fitted]
    return [
        Cell(loss, score, np.stack([s[score] for s, _ in judged]), np.stack([w for _, w in judged]))
        for score in judged[0][0]
    ]


def _tuned(data: Data, config: FitConfig) -> list[Any]:
    """One head per seed, at the learning rate that does best on val_select over all seeds."""
    k, kind = len(data.train.classes), TRAINED[config.head]
    held_out = (data.select.x, data.select.y)
    tried = [replace(config, learning_rate=r, seed=s) for r in RATES for s in range(SEEDS)]
    fitted: list[Any] = heads.fit_many(
        kind,
        data.train.x,
        data.train.y,
        select=held_out,
        n_classes=k,
        recipes=[recipe_of(one, k) for one in tried],
        criterion=criterion("nll", None),
    )
    for head in fitted:
        if isinstance(head, DataError):
            raise head
    nll = [
        heads.negative_log_likelihood(head.logits(data.select.x), data.select.y) for head in fitted
    ]
    best = int(np.argmin(np.reshape(nll, (len(RATES), SEEDS)).mean(axis=1)))
    return fitted[best * SEEDS : (best + 1) * SEEDS]


def _judged(data: Data, head: Any) -> tuple[dict[str, Any], Any]:
    """Confidences by score, and errors, on the test rows."""
    raw = {
        split: _outputs(head, rows)
        for split, rows in (("select", data.select), ("test", data.test))
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            calibrator: Any = Temperature.fit(raw["select"].logits, data.select.y)
        except CalibrationError:
            calibrator = Identity()
    out = {k: replace(o, probabilities=calibrator.probabilities(o.logits)) for k, o in raw.items()}
    affine = heads.affine_of(head, len(data.train.classes))
    train = TrainRows(data.train.x, data.train.y, head.logits(data.train.x), affine)
    scores: dict[str, Any] = {name: SCORES[name](out["test"]) for name in SCORES}
    scores |= {name: FITTED[name].fit(train)(out["test"]) for name in FITTED}
    if out["test"].gate is not None:
        scores["gate"] = calibrated_gate(data.select, out["select"])[0](out["test"])
    return scores, np.asarray(out["test"].prediction != data.test.y)


def _outputs(head: Any, rows: Features) -> Outputs:
    z = head.logits(rows.x)
    gate = head.gate_logits(rows.x) if hasattr(head, "gate_logits") else None
    return Outputs(z, Identity().probabilities(z), rows.x, gate, head.logits)


def datasets(folder: Path, work: Path) -> list[Data]:
    """Extract what is there; real data sets by path."""
    found = [_data("digits", "digits", work)]
    cifar, gtsrb = folder / "cifar10_jpg", folder / "gtsrb_train"
    if cifar.is_dir():
        manifest = _manifest(cifar, work)
        found.append(_data("cifar10_jpg", manifest, work, path="file", label="class_name"))
    if gtsrb.is_dir():
        manifest = _manifest(gtsrb, work)
        for name, label in (
            ("gtsrb_train, 43 signs", "class_id"),
            ("gtsrb_train, road work", "roadwork"),
        ):
            found.append(_data(name, manifest, work, path="file", label=label, group="track"))
    return found


def _manifest(folder: Path, work: Path) -> str:
    """The manifest with absolute paths."""
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    place = work / f"{folder.name}.csv"
    with place.open("w", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({**row, "file": str((folder / row["file"]).resolve())} for row in rows)
    return str(place)


def _data(name: str, source: str, work: Path, **settings: Any) -> Data:
    place = work / f"{name.replace(' ', '-').replace(',', '')}.zarr"
    extract(source, out=place, backbone="tiny", compute="float32", **settings)
    store = FeatureStore.open(place)
    store.set_splits(SPLIT)
    train, select, test = (
        store.read("base", split, feature="cat") for split in ("train", "val_select", "val_test")
    )
    return Data(name, train, select, test)


@dataclass(frozen=True)
class Row:
    """One cell with its figures."""

    data: str
    cell: Cell
    draws: Draws

    def line(self) -> dict[str, Any]:
        """Return it as a JSON line."""
        figures = {}
        for metric in METRICS:
            found = interval(*self.draws[metric])
            figures[metric] = [float(f"{v:.4g}") for v in (found.value, found.low, found.high)]
        return {
            "question": f"{self.data}: {self.cell.loss}, {self.cell.score}",
            "number": float(f"{1000 * self.draws['augrc'][0]:.4g}"),
            "unit": "AUGRC x 1e-3",
            **figures,
            "seeds": len(self.cell.wrong),
            "machine": machine(),
            "commit": commit(),
        }


@dataclass(frozen=True)
class Question:
    """One of a family: is this better or worse than that?"""

    family: str
    data: str
    what: str
    value: float
    low: float
    high: float
    p: float

    def line(self, p_holm: float) -> dict[str, Any]:
        """Return it as a JSON line."""
        return {
            "question": f"{self.data}: {self.what}: difference of AUGRC ({self.family})",
            "number": float(f"{1000 * self.value:.4g}"),
            "unit": "AUGRC x 1e-3",
            "spread": [float(f"{1000 * v:.4g}") for v in (self.low, self.high)],
            "p": float(f"{self.p:.3g}"),
            "p_holm": float(f"{p_holm:.3g}"),
            "machine": machine(),
            "commit": commit(),
        }


def questions(data: Data, cells: Sequence[Cell]) -> list[Question]:
    """Ask the questions of the three families of one data set."""
    needed = {(c.loss, c.score): c for c in cells}
    pairs = [("losses", (c.loss, "msp"), (REFERENCE, "msp")) for c in cells
             if c.score == "msp" and c.loss != REFERENCE]  # fmt: skip
    pairs += [("gates", (c.loss, "gate"), (c.loss, "msp")) for c in cells if c.score == "gate"]
    pairs += [("scores", (REFERENCE, c.score), (REFERENCE, "msp")) for c in cells
              if c.loss == REFERENCE and c.score != "msp"]  # fmt: skip
    known: dict[tuple[str, str], tuple[float, Any]] = {}
    for key in dict.fromkeys(key for _, *both in pairs for key in both):
        known[key] = draws_of(needed[key], data.groups, ["augrc"], MANY, seed=1)["augrc"]
    found = []
    for family, a, b in pairs:
        told, p = difference(known[a], known[b])
        if told.low == told.high == 0:
            continue  # ranks every resample alike
        what = " ".join(a) if family == "losses" else f"{a[0]}, {a[1]}"
        against = b[0] if family == "losses" else f"{b[1]}"
        what = f"{a[0]} against {against}" if family == "losses" else f"{what} against {against}"
        found.append(Question(family, data.name, what, told.value, told.low, told.high, p))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--work", type=Path, help="folder for the stores, kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        found, rows = [], []
        asked: list[Question] = []
        for data in datasets(arguments.data, work):
            cells = []
            for loss, config in configurations(len(data.train.classes)).items():
                cells += cells_of(data, loss, config)
            for cell in cells:
                rows.append(Row(data.name, cell, draws_of(cell, data.groups, METRICS, REPLICATES)))
                print(json.dumps(rows[-1].line()), flush=True)
            asked += questions(data, cells)
            found.append(data)
            print(f"{data.name}: done", file=sys.stderr)
    answers = []
    for family in ("losses", "gates", "scores"):
        members = [q for q in asked if q.family == family]
        for question, p in zip(members, holm([q.p for q in members]), strict=True):
            answers.append((question, p))
            print(json.dumps(question.line(p)), flush=True)
    from benchmarks._heads_document import document

    text = document(found, rows, answers)
    (ROOT / "benchmarks/results/heads_table.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
