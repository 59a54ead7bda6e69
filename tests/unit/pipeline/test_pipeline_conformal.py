"""Fine-tuning through the conformal step from a store: halves, starts, comparison, refusals."""

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from selectkit import heads
from selectkit.cache import FeatureStore
from selectkit.config import FitConfig
from selectkit.errors import ConfigError, DataError
from selectkit.heads import ConformalRisk, ConformalSets, Epoch
from selectkit.pipeline import calibrate, fit, sweep
from selectkit.pipeline.conformal import counted, halves, objective
from selectkit.pipeline.fine_tuning import FineTuning
from selectkit.pipeline.inputs import Inputs
from selectkit.pipeline.run import RunDirectory
from tests.unit.pipeline.pipeline_samples import blobs, content_hash, store_of

Floats = npt.NDArray[np.float64]
RISK: dict[str, Any] = {
    "head": "mlp", "loss": "conformal_risk", "target": "fnr=0.1", "hidden": 4, "epochs": 6,
    "learning_rate": 0.01, "batch_size": 200, "device": "cpu",
}  # fmt: skip
SETS = RISK | {"loss": "conformal_sets", "target": "error=0.1"}
INIT = {k: v for k, v in RISK.items() if k != "hidden"}


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    x, labels = blobs(900, k=2)
    return store_of(tmp_path_factory.mktemp("conformal") / "s.zarr", x, labels)


@pytest.fixture(scope="module")
def plain(store: FeatureStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("plain") / "run"
    fit(str(store.path), out=run, head="linear")
    return run


def _bytes(run: Path) -> bytes:
    return (run / "head.json").read_bytes() + (run / "head.safetensors").read_bytes()


def _epochs(run: Path) -> dict[str, list[int]]:
    found = defaultdict(list)
    for line in (run / "log.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "epoch":
            found[f"{event['training']} by {event['select_by']}"].append(event["epoch"])
    return dict(found)


@pytest.mark.parametrize("settings", [RISK, RISK | {"objective": "deferral"}, SETS], ids=str)
def test_a_head_is_trained_then_fine_tuned_then_compared(
    store: FeatureStore, tmp_path: Path, settings: dict[str, Any]
) -> None:
    run = tmp_path / "run"
    done = fit(str(store.path), out=run, **settings)
    tuned = done.fine_tuning
    assert tuned is not None
    assert tuned.started_from == "cross_entropy"
    assert tuned.n == len(halves(Inputs.of(store, FitConfig()))[1].select.y)
    assert tuned.low is not None
    assert tuned.high is not None
    assert tuned.low <= tuned.after - tuned.before <= tuned.high
    by = {"fpr": "fpr@fnr=0.1", "deferral": "deferral@fnr=0.1"}[settings.get("objective", "fpr")]
    by = "set_size@error=0.1" if settings is SETS else by
    assert _epochs(run) == {"start by nll": [*range(1, 7)], f"fit by {by}": [*range(1, 7)]}
    text = "\n".join(done.lines())
    assert "before fine-tuning" in text
    assert "no guarantee comes from training; calibrate certifies on val_calib" in text
    head = json.loads((run / "head.json").read_text())
    assert head["training"]["loss"]["kind"] == settings["loss"]
    assert head["training"]["loss"]["alpha"] == 0.1
    assert json.dumps(done.to_dict())
    assert fit(str(store.path), out=tmp_path / "again", **settings).fine_tuning == tuned
    assert _bytes(run) == _bytes(tmp_path / "again")
    calibrate(run, target="coverage=0.5")


def test_the_head_of_a_run_is_fine_tuned(store: FeatureStore, plain: Path, tmp_path: Path) -> None:
    done = fit(str(store.path), out=tmp_path / "run", init=str(plain), **INIT)
    tuned = done.fine_tuning
    assert tuned is not None
    assert tuned.started_from == str(plain)
    assert [*_epochs(tmp_path / "run")] == ["fit by fpr@fnr=0.1"]
    head = RunDirectory.open(tmp_path / "run").head.head
    assert isinstance(head, heads.MlpHead)
    assert head.recipe.hidden is None  # the run has a linear head
    _, rows = halves(Inputs.of(store, FitConfig()))
    x, y = np.asarray(rows.features_of(rows.select)[:]), rows.select.y
    loss = ConformalRisk(0.1)
    before = RunDirectory.open(plain).head.head
    assert tuned.before == objective(loss)(before.logits(x), y)
    assert tuned.after == objective(loss)(head.logits(x), y)


def test_a_start_that_is_never_beaten_is_kept_and_said(
    store: FeatureStore, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selectkit.pipeline.training.objective", lambda _: lambda *_: 0.0)
    done = fit(str(store.path), out=tmp_path / "run", init=str(plain), **INIT)
    assert done.fine_tuning is not None
    assert done.fine_tuning.kept_start
    assert "no epoch was better than the head it started from" in "\n".join(done.lines())
    assert done.fine_tuning.before == pytest.approx(done.fine_tuning.after, abs=0.02)


@pytest.mark.parametrize("dies_in", ["start", "fit"])
def test_an_interrupted_fine_tuning_goes_on_and_ends_the_same(
    store: FeatureStore, tmp_path: Path, dies_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selectkit.pipeline.training.CHECKPOINT_SECONDS", 0.0)

    def dying(name: str, epoch: Epoch) -> None:
        if name == dies_in and epoch.epoch == 4:
            raise Killed

    fit(str(store.path), out=tmp_path / "straight", **RISK)
    run = tmp_path / "run"
    with pytest.raises(Killed):
        fit(str(store.path), out=run, watch=dying, **RISK)
    seen: list[tuple[str, int]] = []
    fit(str(store.path), out=run, watch=lambda n, e: seen.append((n, e.epoch)), **RISK)
    assert _bytes(run) == _bytes(tmp_path / "straight")
    assert ("start", 1) not in seen
    assert not (run / "checkpoint").exists()


def test_folds_and_sweeps_fine_tune_too(store: FeatureStore, plain: Path, tmp_path: Path) -> None:
    done = fit(str(store.path), out=tmp_path / "folds", folds=2, **RISK)
    assert done.out_of_fold is not None
    file = tmp_path / "sweep.toml"
    file.write_text("[grid]\ntemperature = [0.1, 1.0]\n")
    for extra in ({"select_by": "coverage@fnr=0.2"}, {"init": str(plain), "select_by": "augrc"}):
        settings = (INIT if "init" in extra else RISK) | extra
        found = sweep(str(store.path), out=tmp_path / "sweep", file=file, **settings)
        assert found.fitted.fine_tuning is not None
        assert [t.error for t in found.trials] == [None, None]


def test_halves_hold_whole_groups_and_do_not_depend_on_their_order(tmp_path: Path) -> None:
    x, labels = blobs(600, k=2)
    groups = [f"video-{i // 5}" for i in range(600)]
    inputs = Inputs.of(store_of(tmp_path / "g.zarr", x, labels, groups), FitConfig())
    first, second = halves(inputs)
    assert not set(first.select.groups) & set(second.select.groups)
    together = sorted([*first.select.rows, *second.select.rows])
    assert together == inputs.select.rows.tolist()
    assert abs(len(set(first.select.groups)) - len(set(second.select.groups))) <= 1
    assert first.select.fingerprint != second.select.fingerprint
    assert first.train is inputs.train


def test_what_is_judged_is_the_hard_form_of_the_loss() -> None:
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(400, 3)), rng.integers(0, 3, 400)
    z[np.arange(400), y] += 1
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    own = np.sort(p[y == 2, 2])
    t = next(s for s in own[::-1] if (1 + (own < s).sum()) / (len(own) + 1) <= 0.1)
    risk = ConformalRisk(0.1, positive=2)
    assert objective(risk)(z, y) == pytest.approx((p[y != 2, 2] >= t).mean())
    deferred = replace(risk, objective="deferral")
    assert objective(deferred)(z, y) == pytest.approx(((p[:, 2] >= t) & (p[:, 2] <= 1 - t)).mean())
    own = np.sort(p[np.arange(400), y])
    t = next(s for s in own[::-1] if (1 + (own < s).sum()) / 401 <= 0.1)
    size = np.maximum((p >= t).sum(axis=1), 1)
    assert objective(ConformalSets(0.1))(z, y) == pytest.approx(size.mean())


def test_counts_are_repeated_rows() -> None:
    rng = np.random.default_rng(1)
    z, y = rng.normal(size=(50, 2)), rng.integers(0, 2, 50)
    counts = rng.integers(0, 4, 50)
    for loss in (ConformalRisk(0.1), ConformalRisk(0.1, objective="deferral"), ConformalSets(0.1)):
        repeated = objective(loss)(np.repeat(z, counts, axis=0), np.repeat(y, counts))
        assert counted(loss, z, y)(counts) == pytest.approx(repeated)
    assert np.isnan(counted(ConformalRisk(0.1), z, y)(np.where(y == 1, 0, 1)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"low": -0.3, "high": -0.1}, "fine-tuning helped: it lowered the false positive rate"),
        ({"low": -0.1, "high": 0.1}, "by more than chance explains; use old-run"),
        ({"low": 0.1, "high": 0.3}, "fine-tuning did harm: it raised the false positive rate"),
        ({"low": None, "high": None}, "by more than chance explains"),
        ({"kept_start": True}, "no epoch was better than the head it started from, which is kept"),
        ({"started_from": "cross_entropy", "high": 0.1}, "use --loss cross_entropy"),
    ],
)
def test_the_verdict_says_what_was_found(changes: dict[str, Any], words: str) -> None:
    told = FineTuning(
        loss="conformal_risk", target="fnr=0.1", started_from="old-run",
        measure="false positive rate", before=0.5, after=0.3, low=-0.3, high=-0.1, n=100,
        counted=50, needed=9, kept_start=False,
    )  # fmt: skip
    assert words in replace(told, **changes).lines()[1]
    assert told.warnings() == ()
    few = replace(told, counted=5).warnings()
    assert few[0].startswith("the comparison has 5 rows to take its threshold from, and fnr=0.1")


def test_what_cannot_be_fine_tuned(store: FeatureStore, plain: Path, tmp_path: Path) -> None:
    path, run = str(store.path), tmp_path / "run"
    with pytest.raises(ConfigError, match="is the run that --init names"):
        fit(path, out=plain, init=str(plain), **INIT)
    with pytest.raises(ConfigError, match=r"needs 199 positives in half a batch, and train has"):
        fit(path, out=run, **RISK | {"target": "fnr=0.005"})
    assert not run.exists()
    fit(path, out=tmp_path / "three", head="three", epochs=1, device="cpu")
    with pytest.raises(ConfigError, match="from a linear or an mlp head, not from three"):
        fit(path, out=run, init=str(tmp_path / "three"), **INIT)
    x, labels = blobs(900, k=3)
    other = store_of(tmp_path / "other.zarr", x, labels)
    with pytest.raises(ConfigError, match=r"its head has classes = \['a', 'b'\], this fit"):
        fit(str(other.path), out=run, init=str(plain), positive="a", **INIT)
    with pytest.raises(ConfigError, match="needs a positive class: give --positive"):
        fit(str(other.path), out=run, **RISK)
    store.set_splits(type(store.splits)(salt="another"))
    try:
        with pytest.raises(DataError, match="images that are now in val_calib or val_test"):
            fit(path, out=run, init=str(plain), **INIT)
    finally:
        store.set_splits(type(store.splits)())


def test_a_val_select_that_cannot_judge(tmp_path: Path) -> None:
    x, _ = blobs(900, k=2)
    splits = FeatureStore.create(tmp_path / "x.zarr", source={}, rows=1, rows_per_shard=1).splits
    where = splits.assign([content_hash(i) for i in range(900)])
    labels = ["b" if i % 2 and where[i] != "val_select" else "a" for i in range(900)]
    labels[int(np.flatnonzero(np.array(where) == "val_select")[0])] = "b"
    store = store_of(tmp_path / "one.zarr", x, labels)
    with pytest.raises(DataError, match="half of val_select has 0 positives among"):
        fit(str(store.path), out=tmp_path / "run", **RISK)
