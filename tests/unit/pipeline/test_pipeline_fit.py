"""Fitting from a store: several views, folds, and going on after an interruption."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectkit.cache import FeatureStore
from selectkit.config import FitConfig
from selectkit.errors import CacheError, ConfigError, DataError
from selectkit.heads import Epoch, LinearHead
from selectkit.pipeline import RunDirectory, calibrate, evaluate, fit, sweep, training
from selectkit.pipeline.inputs import Inputs, folds_of
from selectkit.pipeline.logits import logits_of
from selectkit.report.sweep import Picture
from tests.unit.pipeline.pipeline_samples import add_view, blobs, rows_in, store_of

MLP: dict[str, Any] = {
    "head": "mlp", "hidden": 8, "epochs": 6, "batch_size": 64, "learning_rate": 1e-2,
    "device": "cpu",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _checkpoint_after_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return store_of(tmp_path / "s.zarr", *blobs(400, k=3))


def place(store: FeatureStore) -> str:
    return str(store.path)


class Killed(BaseException):
    pass


def _dying(after: int, name: str = "fit") -> Callable[[str, Epoch], None]:
    def watch(training: str, epoch: Epoch) -> None:
        if training == name and epoch.epoch == after:
            raise Killed

    return watch


def _bytes(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in ("head.json", "head.safetensors")}


def _epochs(run: Path) -> list[tuple[str, int]]:
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(e["training"], e["epoch"]) for e in events if e["event"] == "epoch"]


@pytest.mark.parametrize("head", ["mlp", "three", "abstain"])
def test_an_interrupted_fit_goes_on_and_ends_the_same(
    store: FeatureStore, tmp_path: Path, head: str
) -> None:
    settings = MLP | {"head": head}
    fit(place(store), out=tmp_path / "straight", **settings)
    run = tmp_path / "run"
    with pytest.raises(Killed):
        fit(place(store), out=run, watch=_dying(4), **settings)
    assert [p.name for p in run.iterdir()] != []
    assert not (run / "head.json").exists()
    fit(place(store), out=run, **settings)
    assert _bytes(run) == _bytes(tmp_path / "straight")
    assert not (run / "checkpoint").exists()
    assert _epochs(run) == _epochs(tmp_path / "straight") == [("fit", e) for e in range(1, 7)]


def test_another_configuration_or_other_rows_begin_anew(
    store: FeatureStore, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(Killed):
        fit(place(store), out=run, watch=_dying(4), **MLP)
    other = MLP | {"learning_rate": 2e-2}
    fit(place(store), out=run, **other)
    assert _epochs(run)[4:] == [("fit", e) for e in range(1, 7)]
    fit(place(store), out=tmp_path / "straight", **other)
    assert _bytes(run) == _bytes(tmp_path / "straight")
    assert not (run / "checkpoint").exists()
    with pytest.raises(Killed):
        fit(place(store), out=run, watch=_dying(2), **MLP)
    calibrate(run, target="coverage=0.5")  # the earlier head is still the run's
    store.set_splits(type(store.splits)(salt="other"))
    fit(place(store), out=run, **MLP)
    assert _epochs(run)[-6:] == [("fit", e) for e in range(1, 7)]


def test_a_finished_fit_leaves_nothing_and_begins_anew(store: FeatureStore, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(place(store), out=run, **MLP)
    fit(place(store), out=run, **MLP)
    assert _epochs(run) == [("fit", e) for e in range(1, 7)] * 2


def test_a_fit_that_is_refused_leaves_no_folder(store: FeatureStore, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match="Friendly SAM needs mini-batches"):
        fit(place(store), out=run, **MLP | {"batch_size": 400, "sam_rho": 0.1})
    assert not run.exists()


def test_an_interrupted_sweep_keeps_the_heads_that_it_had(
    store: FeatureStore, tmp_path: Path
) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text("[grid]\nhidden = [4, 8]\nseed = [0, 1]\nhead = ['mlp', 'linear']\n")
    settings = {k: v for k, v in MLP.items() if k not in {"head", "hidden"}}
    straight = sweep(place(store), out=tmp_path / "straight", file=file, **settings)
    run = tmp_path / "run"
    with pytest.raises(Killed):  # hidden = 8 is the second group that is trained
        sweep(place(store), out=run, file=file, watch=_dying(3, "sweep-4"), **settings)
    seen = set(_epochs(run))
    found = sweep(place(store), out=run, file=file, **settings)
    assert _bytes(run) == _bytes(tmp_path / "straight")
    assert found.winner == straight.winner
    assert [t.nll for t in found.trials] == [t.nll for t in straight.trials]
    assert ("sweep-1", 6) in seen
    assert _epochs(run).count(("sweep-1", 6)) == 1
    assert not (run / "checkpoint").exists()


def test_a_sweep_keeps_what_fit_alone_gives(store: FeatureStore, tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text("[grid]\nlearning_rate = [1e-3, 1e-2]\nseed = [0, 1, 2]\n")
    found = sweep(place(store), out=tmp_path / "swept", file=file, **MLP)
    best = found.trials[found.winner - 1]
    assert best.criterion == min(t.criterion for t in found.trials if t.criterion is not None)
    fit(place(store), out=tmp_path / "alone", **MLP | best.settings)
    swept, alone = (RunDirectory.open(tmp_path / name) for name in ("swept", "alone"))
    assert swept.config.fit == alone.config.fit
    np.testing.assert_allclose(
        logits_of(swept.head, store), logits_of(alone.head, store), atol=1e-4
    )
    assert (tmp_path / "swept" / "sweep.csv").read_text().count("\n") == 7
    assert found.estimate is not None
    fit(place(store), out=tmp_path / "swept", **MLP)
    assert not (tmp_path / "swept" / "sweep.csv").exists()


def test_a_sweep_goes_on_without_configurations_that_explode(
    store: FeatureStore, tmp_path: Path
) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text("[grid]\nlearning_rate = [1e-2, 1e30]\n")
    found = sweep(
        place(store), out=tmp_path / "run", file=file, **MLP | {"optimizer": "sgd", "epochs": 3}
    )
    assert found.winner == 1
    assert "the training loss became" in str(found.trials[1].error)
    assert any("number 2: the training loss became" in line for line in found.warnings)
    file.write_text("[grid]\nlearning_rate = [1e29, 1e30]\n")
    with pytest.raises(DataError, match="none of 2 configurations gave a head; the first: the tr"):
        sweep(place(store), out=tmp_path / "other", file=file, **MLP | {"optimizer": "sgd"})


def test_views_side_by_side(store: FeatureStore, tmp_path: Path) -> None:
    x, _ = blobs(400, k=3)
    add_view(store, "other", x[:, :2] ** 2)
    run = tmp_path / "run"
    done = fit(place(store), out=run, view="base+other")
    opened = RunDirectory.open(run)
    assert opened.head.document["n_features"] == 8
    assert opened.head.name in store.heads("base")
    calibrate(run, target="error=0.4", score="mahalanobis")
    assert evaluate(run, replicates=100).to_dict()
    alone = fit(place(store), out=tmp_path / "alone")
    assert done.nll != alone.nll
    with pytest.raises(ConfigError, match="names a view twice"):
        fit(place(store), out=run, view="base+base")
    with pytest.raises(CacheError, match="has no view 'third'"):
        fit(place(store), out=run, view="base+third")


@pytest.mark.parametrize("what", ["view", "feature"])
def test_what_is_named_twice_is_refused(store: FeatureStore, tmp_path: Path, what: str) -> None:
    name = {"view": "base", "feature": "cls"}[what]
    settings: dict[str, Any] = {what: f"{name}+{name}"}
    with pytest.raises(ConfigError, match=f"names a {what} twice; name each once"):
        fit(place(store), out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_rows_of_several_views_are_those_that_all_have(store: FeatureStore, tmp_path: Path) -> None:
    x, _ = blobs(400, k=3)
    add_view(store, "other", x, shards=3)
    rows = Inputs.of(store, FitConfig(view="base+other")).train.rows
    assert rows.max() < 300
    done = fit(place(store), out=tmp_path / "run", view="base+other")
    assert "view base+other holds 300 of 400 rows" in done.warnings[0]
    opened = RunDirectory.open(tmp_path / "run")
    written = logits_of(opened.head, opened.store())
    assert np.isfinite(written[:300]).all()
    assert np.isnan(written[300:]).all()
    assert store.verify() == []
    add_view(store, "other", x)
    add_view(store, "third", x, shards=2)
    file = tmp_path / "sweep.toml"
    file.write_text("[grid]\nview = ['base', 'base+third']\n")
    with pytest.raises(DataError, match="hold different rows"):
        sweep(place(store), out=tmp_path / "other", file=file)


def test_a_view_that_was_replaced_is_noticed(store: FeatureStore, tmp_path: Path) -> None:
    x, _ = blobs(400, k=3)
    add_view(store, "other", x)
    fit(place(store), out=tmp_path / "run", view="base+other")
    moved = store_of(tmp_path / "moved.zarr", *blobs(400, k=3))
    moved.create_view("other", fingerprint={"id": "new"}, features={"cls": (6, "float32")})
    with pytest.raises(CacheError, match="is not the one"):
        calibrate(tmp_path / "run", target="coverage=0.5", store=place(moved))


def test_groups_are_dealt_out_whole_and_evenly() -> None:
    groups = np.array([f"g{i // 3}" for i in range(60)], dtype=object)
    fold = folds_of(groups, 4)
    assert [len({g for g, f in zip(groups, fold, strict=True) if f == i}) for i in range(4)] == [
        5, 5, 5, 5,
    ]  # fmt: skip
    assert all(len(set(fold[groups == g])) == 1 for g in set(groups))
    order = np.random.default_rng(0).permutation(60)
    assert folds_of(groups[order], 4).tolist() == fold[order].tolist()
    with pytest.raises(DataError, match="21 folds need as many groups; train has 20"):
        folds_of(groups, 21)


def test_out_of_fold_logits_come_from_heads_that_have_not_seen_the_group(tmp_path: Path) -> None:
    """Compared with heads that are fitted by hand on what each fold leaves."""
    x, labels = blobs(300, k=3)
    labels[7], labels[100] = None, None
    groups = [f"site-{i // 5}" for i in range(300)]
    store = store_of(tmp_path / "s.zarr", x, labels, groups=groups)
    done = fit(place(store), out=tmp_path / "run", folds=4)
    assert done.out_of_fold is not None
    inputs = Inputs.of(store, FitConfig())
    train, select, z = inputs.train, inputs.select, x.astype(np.float32)
    fold, everyone = folds_of(train.groups, 4), np.array(groups, dtype=object)
    heads = [
        LinearHead.fit(
            z[train.rows[fold != i]], train.y[fold != i],
            select=(z[select.rows], select.y), n_classes=3,
        ).logits(z)
        for i in range(4)
    ]  # fmt: skip
    expected = np.mean(heads, axis=0)
    for i in range(4):
        mine = np.isin(everyone, train.groups[fold == i])  # unlabelled rows of the groups as well
        expected[mine] = heads[i][mine]
    found = store.logits("base", done.out_of_fold.logits)[np.arange(300)]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    own = store.logits("base", RunDirectory.open(tmp_path / "run").head.name)[train.rows]
    assert np.abs(found[train.rows] - own).max() > 0.1
    right = found[train.rows].argmax(axis=1) == train.y
    assert done.out_of_fold.accuracy == pytest.approx(right.mean())


def test_folds_are_taken_up_where_they_were_interrupted(
    store: FeatureStore, tmp_path: Path
) -> None:
    settings = MLP | {"folds": 3}
    fit(place(store), out=tmp_path / "straight", **settings)
    name = RunDirectory.open(tmp_path / "straight").head.name + "-oof"
    before = np.array(store.logits("base", name).read())
    run = tmp_path / "run"
    with pytest.raises(Killed):
        fit(place(store), out=run, watch=_dying(2, "fold-2"), **settings)
    done = fit(place(store), out=run, **settings)
    assert _bytes(run) == _bytes(tmp_path / "straight")
    np.testing.assert_array_equal(store.logits("base", name).read(), before)
    assert _epochs(run) == [
        (training, e) for training in ("fit", "fold-1", "fold-2", "fold-3") for e in range(1, 7)
    ]
    assert done.out_of_fold is not None
    with pytest.raises(DataError, match="folds need as many groups"):
        fit(place(store), out=run, folds=400)


def test_too_few_steps_are_noticed(store: FeatureStore, tmp_path: Path) -> None:
    few = fit(place(store), out=tmp_path / "run", **MLP)
    n = len(Inputs.of(store, FitConfig()).train.y)
    assert few.warnings[0].startswith(f"{6 * -(-n // 64)} steps in all are few")
    assert fit(place(store), out=tmp_path / "run").warnings == ()


def test_a_gate_and_logits_are_in_the_store(store: FeatureStore, tmp_path: Path) -> None:
    fit(place(store), out=tmp_path / "run", **MLP | {"head": "three"})
    name = RunDirectory.open(tmp_path / "run").head.name
    assert store.logits("base", f"{name}-gate").shape == (400, 1)
    assert store.logits("base", name).shape == (400, 3)


def test_a_rate_that_no_epoch_keeps_is_said(tmp_path: Path) -> None:
    """In val_select the positives lie deep among the negatives; in train they do not."""
    n = 600
    y = np.arange(n) % 2
    x = np.column_stack([4.0 * y - 2, np.random.default_rng(0).normal(size=n)])
    deep = [i for i in rows_in("val_select", n) if y[i]]
    x[deep, 0] = -9.0
    store = store_of(tmp_path / "s.zarr", x, ["ab"[c] for c in y])
    settings = {**MLP, "hidden": 0, "batch_size": 16, "learning_rate": 0.3}
    done = fit(place(store), out=tmp_path / "r", **settings, select_by="coverage@fnr=0.1")
    assert any("at no epoch does any share of val_select keep fnr=0.1" in w for w in done.warnings)
    by_nll = fit(place(store), out=tmp_path / "n", **settings)
    assert not any("at no epoch" in w for w in by_nll.warnings)
    assert done.nll == by_nll.nll


def test_equal_configurations_of_a_sweep_are_told_apart_by_their_nll(tmp_path: Path) -> None:
    x, labels = blobs(600, distance=6.0)
    store = store_of(tmp_path / "s.zarr", x, labels)
    file = tmp_path / "sweep.toml"
    file.write_text("[grid]\nlearning_rate = [1e-2, 1e-1, 3e-2]\n")
    settings = {**MLP, "batch_size": 16}
    tried = sweep(place(store), out=tmp_path / "r", file=file, select_by="augrc", **settings)
    assert [t.criterion for t in tried.trials] == [0.0, 0.0, 0.0]
    nll = [t.nll for t in tried.trials if t.nll is not None]
    assert tried.winner == 1 + nll.index(min(nll))
    assert tried.winner > 1
    assert tried.trials[tried.winner - 1].won == 1.0
    assert tried.sorted_by("criterion")[0].number == tried.winner


def test_a_coverage_is_drawn_as_it_is_written(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Picture] = []

    def page(picture: Picture) -> str:
        drawn.append(picture)
        return ""

    monkeypatch.setattr(sys.modules["selectkit.pipeline.sweep"], "page", page)
    file = tmp_path / "sweep.toml"
    file.write_text("[grid]\nlearning_rate = [3e-3, 3e-2]\n")
    by = "coverage@fnr=0.3"
    tried = sweep(place(store), out=tmp_path / "r", file=file, **MLP, positive="b", select_by=by)
    (axis,) = [axis for axis in drawn[0].axes if axis.name == by]
    assert list(axis.values) == [-(t.criterion or 0) for t in tried.trials]
    assert max(axis.values) > 0
    column = tried.table()[0].index(by)
    assert [float(row[column]) for row in tried.table("number")[1]] == [
        pytest.approx(value, rel=1e-3) for value in axis.values
    ]


def test_another_fit_replaces_what_the_head_before_said(
    store: FeatureStore, tmp_path: Path
) -> None:
    three = {**MLP, "head": "three"}
    fit(place(store), out=tmp_path / "other", **three, seed=7)
    others = set(store.heads("base"))
    fit(place(store), out=tmp_path / "r", **three, folds=2)
    first = set(store.heads("base")) - others
    fit(place(store), out=tmp_path / "r", **three, folds=2)
    assert set(store.heads("base")) == others | first
    assert len(first) == 3
    fit(place(store), out=tmp_path / "r", **MLP)
    (name,) = set(store.heads("base")) - others
    assert name.startswith("mlp-")
    assert store.verify() == store.leftovers() == []


def test_a_store_that_cannot_be_written_is_fitted_on_all_the_same(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selectkit.cache.store._PATIENCE", 0.0)
    with FeatureStore.open(place(store)).writing():
        done = fit(place(store), out=tmp_path / "r", **MLP, positive="b")
        assert any("the head's logits are not in it" in w for w in done.warnings)
        assert not store.heads("base")
        calibrate(tmp_path / "r", target="coverage=0.5")
        with pytest.raises(CacheError, match="is being written by another process"):
            fit(place(store), out=tmp_path / "f", **MLP, folds=2)
    again: list[str] = []
    fit(place(store), out=tmp_path / "f", **MLP, folds=2, watch=lambda name, _: again.append(name))
    assert again == []
    assert not (tmp_path / "f" / "checkpoint").exists()
    assert evaluate(tmp_path / "r", replicates=100)
    assert any(name.startswith("mlp-") for name in store.heads("base"))
