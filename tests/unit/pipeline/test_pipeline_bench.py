"""`bench policies`: what is counted, on which rows, and that only the seed decides."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from selectkit.arrays import softmax
from selectkit.errors import ConfigError, DataError
from selectkit.pipeline import RunDirectory, bench_policies, fit
from selectkit.pipeline.bench import FILES, compare_policies, write_policies
from selectkit.pipeline.bench_answer import PolicyBench, Standing
from selectkit.pipeline.bench_contenders import (
    STORED,
    Contender,
    Fitted,
    Promise,
    at_threshold,
    contenders,
)
from selectkit.pipeline.bench_rows import Population
from selectkit.pipeline.bench_splits import Judge, Trial
from selectkit.policies import (
    Costs,
    Outputs,
    ScrcPolicy,
    SoftmaxPolicy,
    Target,
    Targets,
    TwoSidedPolicy,
)
from tests.unit.pipeline.pipeline_samples import blobs, rows_in, store_of

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
COSTS = Costs.parse("miss=20,false_alarm=3,defer=1")


def labelled(n: int, k: int = 2, seed: int = 0, spread: float = 3.0) -> tuple[Floats, Labels]:
    """Logits, and labels drawn from their softmax."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, spread, (n, k))
    drawn = (softmax(z).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return z, np.minimum(drawn, k - 1)


def population(n: int = 600, k: int = 2, seed: int = 0, **settings: Any) -> Population:
    z, y = labelled(n, k, seed)
    return Population.of_arrays(Outputs(z, softmax(z)), y, **settings)


def of(answer: PolicyBench, policy: str, target: str | None = None) -> Standing:
    (found,) = [s for s in answer.standings if s.policy == policy and target in {None, s.target}]
    return found


def without_times(answer: PolicyBench) -> list[dict[str, Any]]:
    return [{k: v for k, v in s.to_dict().items() if k != "milliseconds"} for s in answer.standings]


def test_everybody_who_can_answer_takes_part() -> None:
    rows = population(gate=np.arange(600.0))
    names = [c.name for c in contenders(rows, Targets.parse("error=0.1"), None, 0.1)]
    assert names == [
        "empirical threshold", "one threshold", "two-sided", "per class", "gate",
        "scrc, sets", "scrc split, sets", "scrc joint, sets",
        "scrc, singletons", "scrc split, singletons", "scrc joint, singletons",
    ]  # fmt: skip
    several = [c.name for c in contenders(rows, Targets.parse("fnr=0.1,fpr=0.1"), COSTS, 0.1)]
    assert several == ["empirical threshold", "one threshold", "two-sided", "gate"]
    many = contenders(population(k=4), Targets.parse("error=0.1"), None, 0.1)
    assert not {"two-sided", "gate"} & {c.name for c in many}


def test_the_seed_decides_and_not_the_workers() -> None:
    rows, asked = population(400), [Targets.parse("error=0.1"), Targets.parse("fnr=0.2,fpr=0.2")]
    one, three = (compare_policies(rows, asked, splits=20, workers=w, seed=5) for w in (1, 3))
    assert without_times(one) == without_times(three)
    other = compare_policies(rows, asked, splits=20, workers=1, seed=6)
    assert without_times(one) != without_times(other)


def _twin(
    risk: str, accepted: npt.NDArray[np.bool_], said: Labels, y: Labels, rows: list[int]
) -> float:
    """The rate, one row at a time."""
    bad = n = 0
    for i in rows:
        wrong, positive = said[i] != y[i], y[i] == 1
        about = {
            "error": accepted[i],
            "fnr": accepted[i] and positive,
            "miss_rate": positive,
            "fpr": accepted[i] and not positive,
            "false_alarm": not positive,
            "deferral": True,
        }[risk]
        counts = not accepted[i] if risk == "deferral" else wrong and accepted[i]
        n += bool(about)
        bad += bool(about and counts)
    return bad / n if n else float("nan")


@pytest.mark.parametrize("risk", ["error", "fnr", "miss_rate", "fpr", "false_alarm", "deferral"])
def test_rates_are_those_of_a_plain_count(risk: str) -> None:
    rows = population(300, seed=3)
    policy = TwoSidedPolicy(0.2, 0.7, 1, Targets(), 0.1, ())
    decision = policy.decide(rows.outputs)
    test = np.random.default_rng(0).random(300) < 0.4
    promise = Promise(risk, 0.05, "pac", upper=0.06)
    asked = Contender("x", lambda _o, _y: None)
    trial = Judge(rows, COSTS).trial(asked, Fitted(policy, (promise,)), test, 0.5)
    everybody, held = list(range(300)), np.flatnonzero(test).tolist()
    seen = (decision.accepted, decision.prediction, rows.labels)
    assert trial.risk == pytest.approx(_twin(risk, *seen, everybody))
    assert trial.risk_test == pytest.approx(_twin(risk, *seen, held))
    assert trial.broken == (trial.risk > 0.05)
    assert trial.broken_test == (trial.risk_test > 0.05)
    assert trial.slack == pytest.approx(0.06 - trial.risk)
    assert trial.error == pytest.approx(_twin("error", *seen, held))
    assert trial.fnr == pytest.approx(_twin("fnr", *seen, held))
    assert trial.coverage == pytest.approx(1 - _twin("deferral", *seen, held))
    spent = [COSTS.of(decision, rows.labels, 1)[i] for i in held]
    assert trial.cost == pytest.approx(np.mean(spent))


def test_the_worst_class_is_the_one_that_counts() -> None:
    rows = population(400, k=3, seed=1)
    policy = SoftmaxPolicy("gate", 0.5, None, None, own=STORED)
    promises = tuple(Promise("error", 0.1, "pac", 0.1, predicted=c) for c in range(3))
    asked = Contender("x", lambda _o, _y: None)
    everybody = np.ones(400, dtype=np.bool_)
    trial = Judge(rows, None).trial(asked, Fitted(policy, promises), everybody, 0.0)
    decision = policy.decide(rows.outputs)
    wrong = decision.prediction != rows.labels
    rates = [wrong[decision.accepted & (decision.prediction == c)].mean() for c in range(3)]
    assert trial.risk == pytest.approx(max(rates))
    assert trial.broken == (max(rates) > 0.1)


def test_set_risks_count_missing_classes() -> None:
    rows = population(500, k=4, seed=2)
    for contender in contenders(rows, Targets.parse("error=0.2"), None, 0.2):
        if contender.name != "scrc split, sets":
            continue
        fitted = contender.fit(rows.outputs, rows.labels)
        assert fitted is not None
        assert isinstance(fitted.policy, ScrcPolicy)
        decision = fitted.policy.decide(rows.outputs)
        trial = Judge(rows, None).trial(contender, fitted, np.ones(500, dtype=np.bool_), 0.0)
        inside = decision.prediction_set[np.arange(500), rows.labels]
        assert trial.risk == pytest.approx(1 - inside[decision.accepted].mean())
        assert trial.size == pytest.approx(decision.prediction_set[decision.accepted].sum(1).mean())
        return
    pytest.fail("no contender answers with sets")


@pytest.mark.parametrize("text", ["error=0.1", "fnr=0.15", "miss_rate=0.05", "error=0.1,fpr=0.1"])
def test_the_empirical_threshold_is_the_lowest_that_fits(text: str) -> None:
    rows, targets = population(250, seed=4), Targets.parse(text)
    naive = contenders(rows, targets, None, 0.1)[0]
    found = naive.fit(rows.outputs, rows.labels)
    s, said = STORED(rows.outputs), rows.outputs.prediction
    fits = [
        t
        for t in s
        if all(
            (rate := _twin(g.risk, s >= t, said, rows.labels, list(range(250)))) <= g.alpha
            or np.isnan(rate)
            for g in targets
        )
    ]
    assert found is not None
    assert found.policy.threshold == min(fits)
    assert [p.kind for p in found.promises] == ["none"] * len(targets)


def test_nothing_feasible_is_said_and_written(tmp_path: Path) -> None:
    answer = compare_policies(population(60), [Targets.parse("error=0.001")], splits=20)
    assert of(answer, "one threshold").gave_up == 1
    assert of(answer, "one threshold").coverage == 0
    assert of(answer, "one threshold").broken.count == 0
    assert of(answer, "one threshold").risk is None
    assert not answer.refuted
    write_policies(answer, tmp_path / "a" / "b")
    assert {p.name for p in (tmp_path / "a" / "b").iterdir()} == set(FILES)
    assert json.loads((tmp_path / "a/b/policies.json").read_text()) == answer.to_dict()
    assert (
        "| one threshold | with confidence | 100 % | 0 % |"
        in (tmp_path / "a/b/policies.md").read_text()
    )


@pytest.mark.parametrize("what", ["constant", "ties", "no positive", "one positive", "all right"])
def test_odd_rows_are_survived(what: str) -> None:
    z, y = labelled(200, seed=7)
    z = np.zeros_like(z) if what == "constant" else np.round(z) if what == "ties" else z
    if what == "no positive":
        y = np.zeros_like(y)
    if what == "one positive":
        y = (np.arange(200) == 3).astype(np.int64)
    if what == "all right":
        y = z.argmax(axis=1)
    rows = Population.of_arrays(Outputs(z, softmax(z)), y)
    asked = [Targets.parse(t) for t in ("error=0.1", "fnr=0.1", "fnr=0.1,fpr=0.1,deferral=0.9")]
    answer = compare_policies(rows, asked, splits=20)
    json.dumps(answer.to_dict(), allow_nan=False)
    assert not answer.refuted
    answer.drawing().svg()


def test_costs_choose_and_are_reported() -> None:
    answer = compare_policies(population(500), [Targets()], costs=COSTS, splits=20)
    assert answer.targets == ("least cost (miss=20,false_alarm=3,defer=1)",)
    sweep, single = of(answer, "empirical threshold"), of(answer, "one threshold")
    assert sweep.kind == "none"
    assert sweep.cost is not None
    assert single.cost is not None
    assert 0 < sweep.cost <= 1.1  # deferring everything costs 1
    assert single.slack is not None
    assert single.slack > 0


def test_a_broken_promise_is_shown_and_does_not_count_against_selectkit() -> None:
    def reckless(_outputs: Outputs, _labels: Labels) -> Fitted:
        claimed = at_threshold(-np.inf, [Target("error", 0.01)])
        return replace(claimed, promises=(Promise("error", 0.01, "pac", 0.0),))

    rows, asked = population(300), [Targets.parse("error=0.2")]
    peer = Contender("reckless", reckless, own=False)
    answer = compare_policies(rows, asked, splits=20, extra=[peer])
    shown = of(answer, "reckless")
    assert (shown.broken.count, shown.broken.n, shown.coverage) == (20, 20, 1.0)
    assert shown.refuted(0.1)
    assert not answer.refuted
    ours = compare_policies(rows, asked, splits=20, extra=[replace(peer, own=True)])
    assert [s.policy for s in ours.refuted] == ["reckless"]
    assert any(line.startswith("NOT KEPT: reckless") for line in ours.lines())
    assert ours.to_dict()["kept"] is False


def test_fields_of_a_trial_are_told_apart() -> None:
    trials = np.tile(np.arange(len(Trial._fields), dtype=np.float64), (3, 1))
    trials[:, Trial._fields.index("broken")] = [0, 1, np.nan]
    trials[:, Trial._fields.index("broken_test")] = [1, 1, np.nan]
    trials[:, Trial._fields.index("fnr")] = [np.nan, 0.5, 1.0]
    found = Standing.of("t", "p", "pac", True, trials)
    assert (found.coverage, found.error, found.cost, found.size) == (1, 2, 4, 5)
    assert (found.fnr, found.milliseconds) == (0.75, 0)
    assert (found.broken.count, found.broken.n, found.broken_test.count) == (1, 3, 2)
    assert found.gave_up == pytest.approx(1 / 3)


def test_giving_up_breaks_nothing() -> None:
    """A target that cannot be kept is certified by accident, and then always broken."""

    def lucky(_outputs: Outputs, labels: Labels) -> Fitted | None:
        if labels.sum() % 10:
            return None
        fitted = at_threshold(-np.inf, [Target("error", 0.01)])
        return replace(fitted, promises=(Promise("error", 0.01, "pac", 0.0),))

    found = compare_policies(
        population(300), [Targets.parse("error=0.2")], splits=100, extra=[Contender("lucky", lucky)]
    )
    shown = of(found, "lucky")
    assert 0 < shown.broken.count < 20
    assert shown.broken.n == 100
    assert shown.gave_up == pytest.approx(1 - shown.broken.rate)
    assert not shown.refuted(0.1)


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_a_file_needs_only_logits_and_labels(tmp_path: Path) -> None:
    z, y = labelled(400)
    path = saved(tmp_path / "a.npz", logits=z.astype(np.float32), labels=y)
    answer = bench_policies(path, target=("error=0.1",), splits=20)
    assert (answer.rows, answer.n_calib, answer.n_classes) == (400, 200, 2)
    p = saved(tmp_path / "b.npz", probabilities=softmax(z), labels=y, groups=np.arange(400) // 4)
    grouped = bench_policies(p, target=("error=0.1",), splits=20, share=0.25)
    assert (grouped.rows, grouped.n_calib) == (100, 25)
    assert "400 images of 100 groups" in grouped.warnings[0]


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    z, y = labelled(50)
    good = saved(tmp_path / "good.npz", logits=z, labels=y)
    text = tmp_path / "text.npz"
    text.write_text("no zip")
    objects = saved(tmp_path / "o.npz", logits=z, labels=np.array([None] * 50))
    asked: dict[str, Any] = {"target": ("error=0.1",), "splits": 20}
    for path, match in (
        (
            tmp_path / "missing.npz",
            "is missing: pass a run directory, a feature store or a .npz file",
        ),
        (text, "is no readable .npz file without objects"),
        (objects, "is no readable .npz file without objects"),
        (saved(tmp_path / "half.npz", logits=z), r"must hold labels \(N,\), logits.*holds logits"),
        (saved(tmp_path / "long.npz", logits=z, labels=y[1:]), "labels"),
        (saved(tmp_path / "nan.npz", logits=z * np.nan, labels=y), "finite|NaN|nan"),
        (saved(tmp_path / "g.npz", logits=z, labels=y, groups=y[1:]), r"groups must have shape"),
        (saved(tmp_path / "few.npz", logits=z[:3], labels=y[:3]), "each part needs at least 2"),
    ):
        with pytest.raises(DataError, match=match):
            bench_policies(path, **asked)
    for settings, match in (
        ({"target": ()}, "no target"),
        ({"target": ("coverage=0.8",)}, "promises nothing"),
        ({"target": ("deferral=0.3",)}, "kept by accepting everything"),
        ({"target": ("fnr=0.1",), "positive": 7}, "positive class 7 is outside"),
        ({"score": "knn"}, "--score knn needs a run"),
        ({"store": "s.zarr"}, "--store belongs to a run"),
        ({"splits": 3}, "splits = 3"),
        ({"cost": "miss=1"}, "defer is missing"),
    ):
        with pytest.raises(ConfigError, match=match):
            bench_policies(good, **{**asked, **settings})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    x, labels = blobs(2000, distance=1.5)
    store = store_of(folder / "s.zarr", x, labels)
    fit(str(store.path), out=folder / "run", head="ridge", positive="b")
    return folder / "run"


def test_a_run_is_judged_on_rows_it_has_not_seen(run: Path) -> None:
    before = {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()}
    seen: list[tuple[int, int]] = []
    answer = bench_policies(
        run, target=("error=0.2",), splits=20, watch=lambda done, total: seen.append((done, total))
    )
    assert answer.rows == len(rows_in("val_calib", 2000)) + len(rows_in("val_test", 2000))
    assert seen == [(i + 1, 20) for i in range(20)]
    assert "Choose on val_select, as" in answer.warnings[-1]
    after = {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()}
    assert {n: b for n, b in after.items() if n != "log.jsonl"} == {
        n: b for n, b in before.items() if n != "log.jsonl"
    }
    event = RunDirectory.open(run).events()[-1]
    assert (event["event"], event["rows"]) == ("bench policies", answer.rows)
    with pytest.raises(ConfigError, match="knows its own positive class"):
        bench_policies(run, target=("error=0.2",), positive=1)


def test_of_each_group_of_a_run_one_image_is_used(tmp_path: Path) -> None:
    x, labels = blobs(1200, distance=1.5)
    store = store_of(tmp_path / "s.zarr", x, labels, groups=[f"g{i // 3}" for i in range(1200)])
    fit(str(store.path), out=tmp_path / "run", head="ridge", positive="b")
    answer = bench_policies(tmp_path / "run", target=("fnr=0.3",), splits=20)
    groups = {
        str(g) for split in ("val_calib", "val_test") for g in store.rows_of("base", split).groups
    }
    assert answer.rows == len(groups)
    assert "one image of each group is used" in answer.warnings[-2]
