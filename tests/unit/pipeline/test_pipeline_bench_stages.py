"""`bench policies --stages`: a cascade beside the others, with what an image costs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectkit.arrays import softmax
from selectkit.cache import FeatureStore
from selectkit.errors import ArtifactError, ConfigError, DataError
from selectkit.pipeline import RunDirectory, bench_policies, calibrate, fit
from selectkit.pipeline.bench import compare_policies
from selectkit.pipeline.bench_answer import PolicyBench, Standing
from selectkit.pipeline.bench_contenders import Contender, Fitted, Promise, contenders
from selectkit.pipeline.bench_rows import Population
from selectkit.pipeline.bench_splits import Judge, Trial
from selectkit.pipeline.bench_stages import StagedRows, Stages
from selectkit.policies import CascadePolicy, Guide, Outputs, ScrcPolicy, StageCosts, Targets
from tests.unit.pipeline.pipeline_samples import add_view, blobs, rows_in, small_and_big

N = 2000
PRICES = Stages(("small", "large"), StageCosts((1.0, 4.0), 20.0, "EUR"))
ASKED: dict[str, Any] = {"target": ("error=0.2",), "splits": 20}


def noisy(outputs: Outputs, seed: int = 1) -> Outputs:
    z = outputs.logits + np.random.default_rng(seed).normal(0, 1.5, outputs.logits.shape)
    return Outputs(z, softmax(z))


def drawn(n: int, seed: int) -> Guide:
    """Rows of three classes whose probabilities are right."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 3.0, (n, 3))
    p = softmax(z)
    y = np.minimum((p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), 2)
    return Guide(Outputs(z, p), y)


def population(about: Stages = PRICES, *, guided: bool = True, n: int = 900) -> Population:
    rows, other = drawn(n, 0), drawn(400, 5)
    small, guide = noisy(rows.outputs), noisy(other.outputs, 2)
    guides = (guide, other.outputs) if guided else None
    return Population.of_arrays(
        small, rows.labels, guide=Guide(guide, other.labels) if guided else None,
        staged=StagedRows.of(about, (small, rows.outputs), guides=guides),
    )  # fmt: skip


def of(answer: PolicyBench, policy: str) -> Standing:
    (found,) = [s for s in answer.standings if s.policy == policy]
    return found


def trial(rows: Population, name: str, target: str = "error=0.25") -> tuple[Trial, Fitted]:
    field = contenders(rows, Targets.parse(target), None, 0.1)
    (asked,) = [c for c in field if c.name == name]
    fitted = asked.fit(rows.seen(asked.sees), rows.labels)
    assert fitted is not None
    everybody = np.ones(len(rows), dtype=np.bool_)
    return Judge(rows, None).trial(asked, fitted, everybody, 0.0), fitted


@pytest.mark.parametrize("guided", [True, False])
def test_the_cascade_is_that_of_the_library_and_is_counted_as_a_whole(guided: bool) -> None:
    rows = population(guided=guided)
    found, fitted = trial(rows, "cascade", "error=0.06")
    assert isinstance(fitted.policy, CascadePolicy)
    assert rows.staged is not None
    assert fitted.policy.n == (900 if guided else 600)  # a third says which thresholds to test
    decision = fitted.policy.decide(rows.staged.outputs)
    wrong = decision.prediction != rows.labels
    assert found.coverage == pytest.approx(decision.accepted.mean())
    assert found.risk == pytest.approx(wrong[decision.accepted].mean())
    (certificate,) = fitted.policy.certificates
    assert found.slack == pytest.approx(certificate.risk_upper - found.risk)
    assert decision.stage is not None
    assert set(decision.stage) == {0, 1, 2}
    assert found.cost == pytest.approx(np.array([1.0, 5.0, 25.0])[decision.stage].mean())


def test_others_pay_for_the_stage_that_they_run() -> None:
    rows = population()
    for name, stage in (("one threshold", 1.0), ("per class", 1.0), ("large alone", 4.0)):
        found, _ = trial(rows, name)
        assert found.cost == pytest.approx(stage + 20 * (1 - found.coverage))
    nothing = np.ones(len(rows), dtype=np.bool_)
    for sees, price in (("score", 21.0), ("stages", 25.0), ("last stage", 24.0)):
        asked = Contender("gives up", lambda _o, _y: None, sees=sees)  # type: ignore[arg-type]
        assert Judge(rows, None).trial(asked, None, nothing, 0.0).cost == price


def test_without_prices_nothing_is_said_of_cost() -> None:
    unpriced = replace(PRICES, priced=False)
    answer = compare_policies(population(unpriced), [Targets.parse("error=0.25")], splits=20)
    assert all(s.cost is None for s in answer.standings)
    assert not any("cost in" in line for line in answer.lines())
    assert "cost" not in answer.tables()[0][1]
    priced = compare_policies(population(), [Targets.parse("error=0.25")], splits=20)
    assert priced.tables()[0][1].count("cost, EUR") == 1
    assert any(line.startswith("cost in EUR: small 1, large 4 for") for line in priced.lines())
    assert priced.to_dict()["stages"]["names"] == ["small", "large"]
    without = [{**s.to_dict(), "cost": 0, "milliseconds": 0} for s in priced.standings]
    assert without == [{**s.to_dict(), "cost": 0, "milliseconds": 0} for s in answer.standings]


def test_the_cascade_covers_more_than_its_first_stage_and_keeps_its_promise() -> None:
    answer = compare_policies(population(n=1500), [Targets.parse("error=0.2")], splits=60)
    cascade, first, last = (of(answer, p) for p in ("cascade", "one threshold", "large alone"))
    assert cascade.coverage > first.coverage + 0.05
    assert (cascade.cost or 0) < (first.cost or 0)
    assert cascade.kind == last.kind == "pac"
    assert not answer.refuted


def test_stages_about_other_rows_are_refused() -> None:
    rows = drawn(50, 0)
    with pytest.raises(DataError, match=r"the stage large has logits of shape \(40, 3\)"):
        Population.of_arrays(
            rows.outputs, rows.labels,
            staged=StagedRows.of(PRICES, (rows.outputs, rows.outputs.take(np.arange(40)))),
        )  # fmt: skip


def test_xi_is_the_share_that_selective_sets_let_pass() -> None:
    rows = population()
    for xi in (0.5, 0.9):
        asked = contenders(rows, Targets.parse("error=0.25"), None, 0.1, xi)
        (sets,) = [c for c in asked if c.name == "scrc, sets"]
        fitted = sets.fit(rows.outputs, rows.labels)
        assert fitted is not None
        assert isinstance(fitted.policy, ScrcPolicy)
        assert fitted.policy.xi == xi
        assert fitted.policy.decide(rows.outputs).accepted.mean() == pytest.approx(xi, abs=0.01)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_and_big(tmp_path_factory.mktemp("bench stages"), N, positive="b")


def test_runs_are_compared_on_the_rows_of_both(place: Path) -> None:
    before = {p.name: p.read_bytes() for p in (place / "small").iterdir() if p.is_file()}
    answer = bench_policies(place / "small", stages=str(place / "big"), xi=0.5,
                            stage_costs="1,4", human_cost=50.0, **ASKED)  # fmt: skip
    assert answer.rows == len(rows_in("val_calib", N)) + len(rows_in("val_test", N))
    assert {"cascade", "big alone"} <= {s.policy for s in answer.standings}
    assert of(answer, "scrc, sets").coverage == pytest.approx(0.5, abs=0.05)
    after = {p.name: p.read_bytes() for p in (place / "small").iterdir() if p.is_file()}
    assert {n for n in after if after[n] != before.get(n)} == {"log.jsonl"}
    assert RunDirectory.open(place / "small").events()[-1]["stages"]["costs"] == [1.0, 4.0]
    alone = bench_policies(place / "small", xi=0.5, **ASKED)
    assert of(alone, "one threshold").coverage == of(answer, "one threshold").coverage
    heads = bench_policies(place / "small", stages=str(place / "big"), human_cost=5.0, **ASKED)
    assert any("costs are those of the heads alone" in line for line in heads.warnings)


def test_images_that_a_stage_lacks_are_left_out(place: Path) -> None:
    store = FeatureStore.open(place / "s.zarr")
    add_view(store, "part", blobs(N)[0], shards=12)
    fit(str(place / "s.zarr"), out=place / "part", view="part", positive="b")
    calibrate(place / "part", target="coverage=0.5")
    answer = bench_policies(place / "small", stages=str(place / "part"), **ASKED)
    held = [store.rows_of("part", split).ids for split in ("val_calib", "val_test")]
    assert answer.rows == sum(len(ids) for ids in held)
    assert any("images of val_test that another stage lacks" in w for w in answer.warnings)


def test_what_makes_no_sense_is_refused(place: Path, tmp_path: Path) -> None:
    rows = drawn(100, 0)
    np.savez(tmp_path / "a.npz", logits=rows.outputs.logits, labels=rows.labels)
    staged = {"stages": str(place / "big")}
    questions: tuple[tuple[Path, dict[str, Any], str], ...] = (
        (place / "small", {"human_cost": 3.0}, "--human-cost is about the stages of a cascade"),
        (place / "small", {**staged, "cost": "error=5,defer=1"}, "--cost is for policies of one"),
        (place / "small", {**staged, "score": "knn"}, "score .*Knn.*cannot rank|knn.*cannot rank"),
        (place / "small", {**staged, "stage_costs": "1"}, "2 stages need as many costs"),
        (tmp_path / "a.npz", staged, "--stages belongs to a run"),
    )
    for source, settings, match in questions:
        with pytest.raises(ConfigError, match=match):
            bench_policies(source, **{**ASKED, **settings})
    with pytest.raises(ArtifactError, match="no run at"):
        bench_policies(place / "small", **{**ASKED, "stages": str(place / "none")})


def test_a_promise_of_stages_is_judged_by_the_cascade_s_own_predictions() -> None:
    """The last stage is right where the first is wrong: only the whole counts."""
    z = np.array([[4.0, 0.0]] * 60)
    y = np.ones(60, dtype=np.int64)
    first, last = Outputs(z, softmax(z)), Outputs(-z, softmax(-z))
    rows = Population.of_arrays(first, y, staged=StagedRows.of(PRICES, (first, last)))
    assert rows.staged is not None

    def skip(_stages: Any, _labels: Any) -> Fitted:
        (asked,) = [c for c in contenders(rows, Targets.parse("error=0.5"), None, 0.1)
                    if c.name == "cascade"]  # fmt: skip
        found = asked.fit(rows.seen("stages"), y)
        assert found is not None
        return replace(found, promises=(Promise("error", 0.5, "pac", 0.5),))

    fitted = skip(None, None)
    judged = Judge(rows, None).trial(
        Contender("x", skip, sees="stages"), fitted, np.ones(60, dtype=np.bool_), 0.0
    )
    assert judged.risk == 0
    assert judged.coverage == 1
