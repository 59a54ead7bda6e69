"""Policies on real predictions: 250 random calibration splits, judged on the whole pool.

The pool is the population: rows are drawn from it without replacement, the true risk is the risk on
all of its rows, and the promise is about that.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from selectkit.policies import (
    CascadePolicy,
    Decision,
    GatePolicy,
    Guide,
    Outputs,
    ScrcPolicy,
    StageCosts,
    Target,
    Targets,
)
from selectkit.policies.scores import Gate
from selectkit.risk import Infeasible, joint_certificate, scrc_split_pac, scrc_t

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
RUNS, DELTA = 250, 0.1


def arrays(folder: str, file: str) -> dict[str, npt.NDArray[Any]]:
    path = DATA / folder / file
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with np.load(path) as found:
        return {name: found[name] for name in found.files}


def rare(misses: int) -> bool:
    """Whether the promise is broken at most as often as it may be, up to 3 standard errors."""
    return bool(misses / RUNS <= DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / RUNS))


def outputs_of(p: npt.NDArray[Any]) -> Outputs:
    p = np.clip(p.astype(np.float64), 1e-12, 1)
    p /= p.sum(axis=1, keepdims=True)
    z = np.log(p)
    two = np.sort(z, axis=1)[:, -2:]
    return Outputs(z, p, gate=two[:, 1] - two[:, 0])


@lru_cache(maxsize=8)
def pool(name: str) -> Guide:
    """A population: outputs and labels."""
    if name == "coco persons":
        found = arrays("coco_tresnetxl_dev", "coco_tresnetxl_dev.npz")
        person = int(found["labels"].sum(axis=0).argmax())
        p = found["scores"][:, person].astype(np.float64)
        return Guide(
            outputs_of(np.stack([1 - p, p], axis=1)),
            (found["labels"][:, person] == 1).astype(np.int64),
        )
    folder, file = {
        "cifar10": ("cleanlab_cifar10", "cifar10.npz"),
        "imdb": ("cleanlab_imdb_dev", "cleanlab_imdb_dev.npz"),
    }[name]
    found = arrays(folder, file)
    return Guide(outputs_of(found["probs"]), found["labels"])


def imagenet(model: str) -> Outputs:
    """Two classes, right and wrong: all labels are 0, and predictions keep their confidence."""
    found = arrays("imagenet_top1_dev", "imagenet_top1_dev.npz")
    conf = np.clip(found[f"{model}__conf"].astype(np.float64), 1e-9, 1 - 1e-9)
    right = found[f"{model}__pred"] == found[f"{model}__true"]
    sure = 0.5 + conf / 2  # the more probable of two, in the order of the confidence
    return outputs_of(np.where(right[:, None], np.stack([sure, 1 - sure], 1),
                               np.stack([1 - sure, sure], 1)))  # fmt: skip


class Rates:
    """Rates on a pool, as numerator and denominator."""

    def __init__(self, d: Decision, y: npt.NDArray[Any], positive: int | None) -> None:
        wrong, one = d.prediction != y, y == positive
        a = d.accepted
        self.of = {
            "error": (a & wrong, a),
            "fnr": (a & wrong & one, a & one),
            "fpr": (a & wrong & ~one, a & ~one),
            "deferral": (~a, np.ones(len(y), dtype=np.bool_)),
        }

    def __getitem__(self, risk: str) -> float:
        errors, n = (int(np.count_nonzero(part)) for part in self.of[risk])
        return errors / max(n, 1)


SETS = [
    ("cifar10", "error", 0.02, 0.9, None),
    ("imdb", "error", 0.035, 0.8, None),
    ("coco persons", "fnr", 0.06, 0.8, 0),  # of images without any; all confident ones have some
]


@pytest.mark.parametrize("variant", ["split_pac", "joint"])
@pytest.mark.parametrize(("name", "risk", "alpha", "xi", "positive"), SETS)
def test_sets_and_exits_keep_their_promises(
    name: str, risk: str, alpha: float, xi: float, positive: int | None, variant: Any
) -> None:
    rows, rng = pool(name), np.random.default_rng(0)
    misses, exits, found = 0, [], 0
    for run in range(RUNS):
        calib = rows.take(rng.choice(len(rows.labels), 1200, replace=False))
        policy = ScrcPolicy.fit(
            calib.outputs, calib.labels, target=Target(risk, alpha), delta=DELTA, xi=xi,
            variant=variant, exits="accepted" if positive == 0 else "singletons", coverage="pac",
            positive=positive, seed=run,
        )  # fmt: skip
        if isinstance(policy, Infeasible):
            continue
        d = policy.decide(rows.outputs)
        passing = rows.outputs.probabilities.max(axis=1) > policy.lambda1
        y = rows.labels
        about = passing if positive is None else passing & (y == positive)
        lost = ~d.prediction_set[np.arange(len(y)), y] & about
        broken = lost.sum() > alpha * about.sum() or passing.mean() < xi
        misses += broken or (positive is None and Rates(d, y, positive)[risk] > alpha)
        exits.append(d.accepted.mean())
        found += 1
    assert rare(misses)
    assert found > 0.5 * RUNS
    assert np.mean(exits) > 0.3


@pytest.mark.parametrize("exits", ["accepted", "singletons"])
@pytest.mark.parametrize(("name", "risk", "alpha", "xi", "positive"), SETS)
def test_the_one_pass_rule_keeps_its_promise_on_average(
    name: str, risk: str, alpha: float, xi: float, positive: int | None, exits: Any
) -> None:
    rows, rng = pool(name), np.random.default_rng(1)
    y, n = rows.labels, 600
    lost, passed, misses, above, found = [], [], 0, 0, 0
    for _ in range(RUNS):
        calib = rows.take(rng.choice(len(y), n, replace=False))
        policy = ScrcPolicy.fit(
            calib.outputs, calib.labels, target=Target(risk, alpha), delta=DELTA, xi=xi,
            variant="t", exits=exits, positive=positive,
        )  # fmt: skip
        if isinstance(policy, Infeasible):
            continue
        found += 1
        d = policy.decide(rows.outputs)
        passing = rows.outputs.probabilities.max(axis=1) > policy.lambda1
        about = passing if positive is None else passing & (y == positive)
        missed = ~d.prediction_set[np.arange(len(y)), y] & about
        lost.append(missed.sum() / len(y))
        passed.append(about.sum() / len(y))
        above += missed.sum() > alpha * about.sum()
        misses += exits == "singletons" and Rates(d, y, positive)[risk] > alpha
    if positive == 0 and exits == "singletons":
        assert not found  # the most confident exits of that class are all errors
        return
    risks = np.array(lost) - alpha * np.array(passed)
    assert risks.mean() <= 3 * risks.std() / np.sqrt(found)
    assert rare(misses)
    if exits == "accepted":
        assert found == RUNS
        assert not rare(above)  # on average only


def missed_labels() -> tuple[Floats, Floats, Floats]:
    """COCO: a confidence, and the share of labels missed by {score >= 1 - lambda}, by lambda."""
    found = arrays("coco_tresnetxl_dev", "coco_tresnetxl_dev.npz")
    scores, labels = found["scores"].astype(np.float64), found["labels"] == 1
    lambdas = np.linspace(0, 1, 41)[1:]
    caught = np.stack([((scores >= 1 - t) & labels).sum(axis=1) for t in lambdas], axis=1)
    return scores.max(axis=1), 1 - caught / labels.sum(axis=1, keepdims=True), lambdas


def test_missed_labels_of_selected_images() -> None:
    score, losses, lambdas = missed_labels()
    rng, alpha, xi = np.random.default_rng(2), 0.1, 0.75
    misses, mean, low = {"split": 0, "joint": 0}, [], []
    for _ in range(RUNS):
        rows = rng.choice(len(score), 800, replace=False)
        s, x = score[rows], losses[rows]
        answers = {
            "t": scrc_t(s, x, lambdas, xi, alpha),
            "split": scrc_split_pac(s, x, lambdas, xi, alpha, DELTA, coverage="pac", rng=rng),
            "joint": joint_certificate(s, x, lambdas, xi, alpha, DELTA, thresholds=3, rng=rng),
        }
        for kind, found in answers.items():
            if isinstance(found, Infeasible):
                continue
            accepted = found.accepts(score)
            loss = losses[accepted, np.searchsorted(lambdas, found.lambda2)]
            if kind == "t":
                mean.append(loss.sum() / len(score) - alpha * accepted.mean())
                low.append(accepted.mean())
            else:
                misses[kind] += loss.mean() > alpha or accepted.mean() < xi
    assert np.mean(mean) <= 3 * np.std(mean) / np.sqrt(RUNS)
    assert abs(np.mean(low) - 0.75) < 0.005
    assert all(rare(number) for number in misses.values())


GATES = [
    ("imagenet", "error=0.1,deferral=0.5", None, 0.55),
    ("coco persons", "fnr=0.05,error=0.06,deferral=0.5", 1, 0.5),
    ("coco persons", "error=0.1", None, 0.5),
    ("imdb", "error=0.06,fnr=0.08,deferral=0.6", 1, 0.5),
]


@pytest.mark.parametrize(("name", "text", "positive", "floor"), GATES)
def test_gates_keep_all_their_promises_at_once(
    name: str, text: str, positive: int | None, floor: float
) -> None:
    if name == "imagenet":
        whole = imagenet("efficientnet_b1")
        rows = Guide(whole, np.zeros(len(whole), dtype=np.int64))
    else:
        rows = pool(name)
    targets, rng = Targets.parse(text), np.random.default_rng(3)
    misses, covered = 0, []
    for _ in range(RUNS):
        calib = rows.take(rng.choice(len(rows.labels), 1000, replace=False))
        policy = GatePolicy.fit(
            calib.outputs, calib.labels, gate=Gate(), target=targets, delta=DELTA, positive=positive
        )
        if policy.infeasible is not None:
            covered.append(0.0)
            continue
        rates = Rates(policy.decide(rows.outputs), rows.labels, positive)
        misses += any(rates[t.risk] > t.alpha for t in targets)
        covered.append(1 - rates["deferral"])
    assert rare(misses)
    assert np.mean(covered) > floor


@pytest.mark.parametrize(("text", "last_decides"), [("error=0.12", False), ("error=0.24", True)])
def test_cascades_of_two_networks_keep_their_promise(text: str, last_decides: bool) -> None:
    stages = [imagenet("tv_densenet161"), imagenet("efficientnet_b1")]
    few = np.random.default_rng(4).choice(len(stages[0]), 10_000, replace=False)
    stages = [stage.take(few) for stage in stages]  # the pool
    y, rng = np.zeros(len(few), dtype=np.int64), np.random.default_rng(5)
    targets, misses, covered = Targets.parse(text), 0, []
    for _ in range(RUNS):
        drawn = rng.choice(len(few), 2000, replace=False)
        select, calib = drawn[:1000], drawn[1000:]
        policy = CascadePolicy.fit(
            [s.take(calib) for s in stages], y[calib], costs=StageCosts((1.0, 2.5), 30.0),
            target=targets, delta=DELTA, select=([s.take(select) for s in stages], y[select]),
            last_decides=last_decides,
        )  # fmt: skip
        if policy.infeasible is not None:
            covered.append(0.0)
            continue
        rates = Rates(policy.decide(stages), y, None)
        misses += any(rates[t.risk] > t.alpha for t in targets)
        covered.append(1 - rates["deferral"])
    assert rare(misses)
    assert np.mean(covered) > 0.5
