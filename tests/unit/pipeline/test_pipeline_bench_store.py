"""`bench policies STORE`: the rows of a store, as the logits that a head left in it see them."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectkit.cache import FeatureStore, HeadInfo, SplitScheme, layout
from selectkit.errors import CacheError, ConfigError, DataError, LeakageError
from selectkit.pipeline import RunDirectory, bench_policies, calibrate, fit, split
from selectkit.pipeline.bench_answer import PolicyBench
from tests.unit.pipeline.pipeline_samples import add_view, blobs, store_of

ASKED: dict[str, Any] = {"target": ("error=0.2", "fnr=0.3"), "splits": 20}


def told(answer: PolicyBench) -> dict[str, Any]:
    """All but the source and the times."""
    found = answer.to_dict()
    standings = [{k: v for k, v in s.items() if k != "milliseconds"} for s in found["standings"]]
    return {**found, "standings": standings, "source": ""}


def policies(answer: PolicyBench) -> set[str]:
    return {s.policy for s in answer.standings}


def head_of(run: Path) -> str:
    return RunDirectory.open(run).head.name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of groups of two classes, and a run with a calibrator."""
    place = tmp_path_factory.mktemp("bench_store")
    x, labels = blobs(1500, distance=1.2)
    store = store_of(place / "s.zarr", x, labels, groups=[f"g{i // 2}" for i in range(1500)])
    fit(str(store.path), out=place / "run", head="ridge")
    calibrate(place / "run", target="error=0.2")
    return place


@pytest.fixture
def mine(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder / "s.zarr", tmp_path / "s.zarr")


def test_a_store_answers_as_the_run_that_left_its_logits(folder: Path) -> None:
    store = folder / "s.zarr"
    before = {p: p.read_bytes() for p in store.rglob("*") if p.is_file()}
    answer = bench_policies(store, **ASKED)
    assert told(answer) == told(bench_policies(folder / "run", **ASKED))
    assert "one image of each group is used" in answer.warnings[-2]
    assert answer.source == (
        f"val_calib and val_test of {store} by {head_of(folder / 'run')} of view base, positive: b"
    )
    assert before == {p: p.read_bytes() for p in store.rglob("*") if p.is_file()}


def test_several_classes_and_views_side_by_side(tmp_path: Path) -> None:
    x, labels = blobs(900, k=3, distance=1.2)
    store = store_of(tmp_path / "store", x[:, :3], labels)
    add_view(store, "more", x[:, 3:])
    fit(str(store.path), out=tmp_path / "run", view="base+more", positive="b")
    found = bench_policies(str(store.path), positive=1, **ASKED)  # known without its ending
    assert told(found) == told(bench_policies(tmp_path / "run", **ASKED))
    plain = bench_policies(str(store.path), target=("error=0.2",), splits=20)
    assert plain.source.endswith("of view base")
    with pytest.raises(ConfigError, match="positive"):
        bench_policies(str(store.path), target=("fnr=0.2",), splits=20)


def test_the_gate_takes_part_and_may_be_the_score(tmp_path: Path) -> None:
    x, labels = blobs(900, distance=1.2)
    store = store_of(tmp_path / "s.zarr", x, labels)
    fit(str(store.path), out=tmp_path / "run", head="three", hidden=8, epochs=4, device="cpu")
    assert head_of(tmp_path / "run") + "-gate" in store.heads("base")
    for score in ("msp", "gate", "margin"):
        found = bench_policies(str(store.path), score=score, **ASKED)
        assert "gate" in policies(found)
        assert told(found) == told(bench_policies(tmp_path / "run", score=score, **ASKED))


def test_of_several_heads_one_is_named(tmp_path: Path) -> None:
    x, labels = blobs(700, distance=1.2)
    store = store_of(tmp_path / "s.zarr", x, labels)
    add_view(store, "large", x + 0.1)
    runs = {
        name: tmp_path / name for name, head, view in (
            ("one", "ridge", "base"), ("two", "prototype", "base"), ("three", "ridge", "large")
        ) if fit(str(store.path), out=tmp_path / name, head=head, view=view)
    }  # fmt: skip
    names = {name: head_of(path) for name, path in runs.items()}

    def refused(match: str, **settings: Any) -> None:
        with pytest.raises(ConfigError, match=match):
            bench_policies(str(store.path), **ASKED, **settings)

    listed = [f"{names['two']} (view base)", f"{names['one']} (view base)"]
    everybody = ", ".join([*listed, f"{names['three']} (view large)"])
    place = re.escape(f"{store.path} holds the logits of {everybody}: say which by --head, or pass")
    refused(place)
    refused(f"view base of .* logits of {names['two']}, {names['one']}: say which", view="base")
    refused(f"no logits of --head {names['two']}, but of {names['three']}", view="large",
            head=names["two"])  # fmt: skip
    refused("no logits of --head svm, but of prototype-", head="svm")
    for name, run in runs.items():
        found = bench_policies(str(store.path), head=names[name], **ASKED)
        assert told(found) == told(bench_policies(run, **ASKED))
    assert bench_policies(str(store.path), view="large", **ASKED).source.endswith(
        "large, positive: b"
    )
    with pytest.raises(CacheError, match="has no view 'small'"):
        bench_policies(str(store.path), view="small", **ASKED)
    z = np.zeros((700, 2))
    store.write_logits("large", names["one"], z, classes=["a", "b"], head_hash="h")
    refused(r"\(view base\), .* \(view large\): say which by --view", head=names["one"])


def test_a_store_without_logits_says_who_writes_them(tmp_path: Path) -> None:
    x, labels = blobs(100)
    store = store_of(tmp_path / "s.zarr", x, labels)
    store.write_logits("base", "h-oof", np.zeros((100, 2)), classes=["a", "b"], head_hash="h")
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, f"`selectkit fit {store.path} --out RUN`"),
        ({"view": "base"}, f"`selectkit fit {store.path} --view base --out RUN`"),
    ]
    for settings, command in cases:
        with pytest.raises(DataError, match=f"holds no logits of a head: {re.escape(command)}"):
            bench_policies(str(store.path), **ASKED, **settings)
    with pytest.raises(CacheError, match=r"no feature store at .*run `selectkit extract` first"):
        bench_policies(tmp_path / "other.zarr", **ASKED)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"store": "x.zarr"}, r"--store belongs to a run; .*s\.zarr is a feature store itself"),
        ({"stages": "x"}, r"--stages names runs .* instead of the feature store .*s\.zarr\."),
        ({"score": "knn"}, "--score knn is fitted on the features .* pass the run, or take one of"),
        ({"score": "gate"}, "--score gate needs a head with a trained gate; ridge-.* has none"),
        ({"positive": 2}, r"--positive 2: ridge-\w+ has the classes 0 = a to 1 = b\."),
    ],
)
def test_settings_that_a_store_cannot_take(
    folder: Path, settings: dict[str, Any], match: str
) -> None:
    with pytest.raises(ConfigError, match=f"(?i){match}"):
        bench_policies(folder / "s.zarr", **ASKED, **settings)


def test_runs_and_files_have_one_head(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", logits=np.zeros((9, 2)), labels=np.zeros(9, dtype=np.int64))
    for source, match in (
        (folder / "run", "a run has one head|a run knows the view of its head"),
        (tmp_path / "a.npz", "a file knows one head only|a file has no views"),
    ):
        for flag in ("head", "view"):
            asked = {**ASKED, flag: "base"}
            with pytest.raises(ConfigError, match=f"--{flag} is for a feature store; ({match})"):
                bench_policies(source, **asked)


def test_the_positive_class_may_be_the_other(folder: Path) -> None:
    first = bench_policies(folder / "s.zarr", positive=0, **ASKED)
    assert first.source.endswith("positive: a")
    assert told(first) != told(bench_policies(folder / "s.zarr", **ASKED))


def test_rows_that_the_head_may_have_seen_are_refused(mine: Path) -> None:
    store = FeatureStore.open(mine)
    ((name, info),) = store.heads("base").items()
    store.set_splits(SplitScheme(salt="other"))
    with pytest.raises(LeakageError, match=f"'salt': 'other'.*{name} may have been fitted on"):
        bench_policies(mine, **ASKED)
    store.set_splits(SplitScheme())
    assert bench_policies(mine, **ASKED).rows
    older = HeadInfo(info.classes, info.head_hash).document(store.rows, store.rows_per_shard)
    layout.write_zarr(store.files, layout.logits_folder("base", name), older)
    with pytest.raises(LeakageError, match="does not say how it was split when the logits"):
        bench_policies(mine, **ASKED)


def test_missing_splits_name_the_command(mine: Path) -> None:
    (mine / "splits.json").unlink()
    with pytest.raises(
        CacheError, match=r"splits\.json is missing: `selectkit split .*s\.zarr --s"
    ):
        bench_policies(mine, **ASKED)
    known = SplitScheme()
    split(mine, salt=known.salt, fractions=",".join(map(str, known.fractions)))
    assert bench_policies(mine, **ASKED).rows


@pytest.mark.parametrize(
    ("empty", "fractions"),
    [
        ("val_select", (0.6, 0.0, 0.2, 0.2)),
        ("val_calib", (0.6, 0.2, 0.0, 0.2)),
        ("val_test", (0.6, 0.2, 0.2, 0.0)),
    ],
)
def test_an_empty_split_is_named(
    tmp_path: Path, empty: str, fractions: tuple[float, float, float, float]
) -> None:
    x, labels = blobs(400)
    store = store_of(tmp_path / "s.zarr", x, labels)
    store.set_splits(SplitScheme(fractions=fractions))
    store.write_logits("base", "h", x[:, :2], classes=["a", "b"], head_hash="h")
    with pytest.raises(DataError, match=f"split {empty} of .* no labelled .*`selectkit split"):
        bench_policies(str(store.path), **ASKED)


def test_labels_that_the_head_does_not_know_are_named(tmp_path: Path) -> None:
    x, labels = blobs(400, k=3)
    store = store_of(tmp_path / "s.zarr", x, labels)
    store.write_logits("base", "h", x[:, :2], classes=["a", "b"], head_hash="h")
    with pytest.raises(DataError, match=r"has labels \['c'\] that the head was not fitted on"):
        bench_policies(str(store.path), **ASKED)


def test_logits_of_some_rows_only_are_refused(mine: Path) -> None:
    (scope,) = (mine / "commits").glob("base.logits.*")
    (scope / "00003.json").unlink()
    with pytest.raises(
        DataError, match=r"for 1,400 of the 1,500 rows of view base\. Pass the head"
    ):
        bench_policies(mine, **ASKED)


def test_damaged_logits_are_found(mine: Path) -> None:
    (name,) = FeatureStore.open(mine).heads("base")
    chunk = mine / f"views/base/logits/{name}/c/2/0"
    data = bytearray(chunk.read_bytes())
    data[9] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(CacheError, match="is damaged: its checksum does not match"):
        bench_policies(mine, **ASKED)


def test_a_view_that_lags_is_used_as_far_as_it_goes(tmp_path: Path) -> None:
    x, labels = blobs(1500, distance=1.2)
    store = store_of(tmp_path / "s.zarr", x, labels)
    add_view(store, "more", x, shards=12)
    fit(str(store.path), out=tmp_path / "run", view="more", head="ridge")
    found = bench_policies(str(store.path), **ASKED)
    known = bench_policies(tmp_path / "run", **ASKED)
    assert found.warnings[0] == (
        "view more holds 1,200 of 1,500 rows; run extract again to complete it"
    )
    assert told(found) == {**told(known), "warnings": list(found.warnings)}
    (tmp_path / "s.zarr/commits/more/00002.json").unlink()  # withdrawn, the logits are still there
    assert bench_policies(str(store.path), **ASKED).rows < found.rows
