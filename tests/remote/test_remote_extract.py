"""Extraction from and into an object store, by one process, by several, and in an outage."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from selectkit.cache import FeatureStore
from selectkit.errors import DataError, RemoteError
from selectkit.extract import extract, open_source
from selectkit.extract.images import place_of
from selectkit.extract.sources import FolderSource, reopen
from selectkit.location import Url, location
from selectkit.objects import Objects
from selectkit.pipeline import calibrate, evaluate, fit
from tests.e2e.conftest import run_cli
from tests.remote.server import Wire
from tests.remote.test_remote_store import files, stored
from tests.unit.extract.extract_tools import StubBackbone, content, image_folder

ROOT = Path(__file__).resolve().parents[2]

WORKER = """
import os, sys, time
from selectkit.cache import FeatureStore
from selectkit.extract import extract, open_source
from tests.unit.extract.extract_tools import StubBackbone

write = FeatureStore.write_features

def logged(self, view, shard, arrays):
    write(self, view, shard, arrays)
    print(shard, flush=True)

FeatureStore.write_features = logged
extract(
    open_source("digits"), sys.argv[1], backbone=StubBackbone(), rows_per_shard=200, workers=1,
    progress=lambda p: time.sleep(0.02),
)
"""


def worker(store: Url) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(store)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The digits in a local store."""
    store = tmp_path_factory.mktemp("whole") / "s.zarr"
    extract(open_source("digits"), store, backbone=StubBackbone(), rows_per_shard=200)
    return files(store)


@pytest.fixture
def photos(bucket: Url, tmp_path: Path) -> Iterator[Path]:
    """Images in a folder and, the same, below `photos` in the bucket."""
    folder = image_folder(tmp_path / "photos", {"a": 25, "b": 20})
    (folder / "a" / "100%#.png").write_bytes((folder / "a" / "000.png").read_bytes())
    (folder / "a" / "broken.png").write_bytes(b"no image")
    objects = Objects(bucket / "photos")
    for path, data in content(folder).items():
        objects.put(path, data)
    objects.put("a/notes.txt", b"no image either")
    objects.put("a/.hidden.png", b"nor this")
    yield folder
    (folder / "a" / "notes.txt").write_bytes(b"as in the bucket")


def test_images_and_store_in_a_bucket_give_the_store_of_a_folder(
    bucket: Url, photos: Path, wire: Wire
) -> None:
    local, remote = photos.parent / "local.zarr", bucket / "s.zarr"
    extract(open_source(photos), local, backbone=StubBackbone(), rows_per_shard=16)
    source = open_source(f"{bucket}/photos/")
    assert getattr(source, "ignored", None) == {".txt": 1}
    wire.requests.clear()
    extract(source, str(remote), backbone=StubBackbone(), rows_per_shard=16)
    images = [path for method, path in wire.requests if "/photos/" in path]
    assert len(images) == 47  # reading ahead reads nothing twice
    there, here = stored(remote), files(local)
    assert json.loads(there.pop("zarr.json")) != json.loads(here.pop("zarr.json"))  # the source
    assert there == here
    again = extract(source, str(remote), backbone=StubBackbone(), rows_per_shard=16)
    assert (again.done_now, again.skipped) == (0, 47)
    assert reopen(FeatureStore.open(remote).source).records() == source.records()


def test_a_manifest_may_name_images_anywhere(bucket: Url, photos: Path) -> None:
    rows = [
        ("photos/a/000.png", "x"),
        (f"{bucket}/photos/a/001.png", "x"),
        (f"{photos}/b/000.png", "y"),
        ((photos / "b/001.png").as_uri(), "y"),
        ("./photos/../photos/b/002.png", "y"),
        ("photos/a/none.png", "y"),
        ("../../../../up.png", "y"),
        ("ftp://a/b.png", "y"),
    ]
    table = "path,label\n" + "".join(f"{path},{label}\n" for path, label in rows)
    Objects(bucket).put("list.csv", table.encode())
    summary = extract(
        open_source(f"{bucket}/list.csv"), f"{bucket}/s.zarr", backbone=StubBackbone()
    )
    assert summary.failed == {"unreadable": 3}
    index = FeatureStore.open(bucket / "s.zarr").index()
    assert index.status.tolist()[:5] == ["ok"] * 5
    x = FeatureStore.open(bucket / "s.zarr").read("base", None).x
    extract(open_source(photos), photos.parent / "local", backbone=StubBackbone())
    there = FeatureStore.open(photos.parent / "local")
    of = dict(zip(there.index().id, there.array("base", "cls")[:], strict=True))
    names = ["a/000.png", "a/001.png", "b/000.png", "b/001.png", "b/002.png"]
    np.testing.assert_array_equal(x, np.array([of[name] for name in names], dtype=np.float32))


def test_nothing_in_a_bucket_is_no_source(bucket: Url) -> None:
    with pytest.raises(DataError, match="holds no image"):
        open_source(str(bucket))
    with pytest.raises(DataError, match=r"list\.csv is not a readable manifest: .*No such object"):
        open_source(f"{bucket}/list.csv")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("a/b.png", "s3://bucket/photos/a/b.png"),
        ("../b.png", "s3://bucket/b.png"),
        ("gs://other/x.png", "gs://other/x.png"),
        ("/data/x.png", "/data/x.png"),
    ],
)
def test_paths_are_relative_to_their_place(path: str, place: str) -> None:
    assert str(place_of(location("s3://bucket/photos"), path)) == place


def test_two_processes_share_a_bucket(bucket: Url, whole: dict[str, bytes]) -> None:
    workers = [worker(bucket), worker(bucket)]
    written = [process.communicate(timeout=200)[0].split() for process in workers]
    assert [process.returncode for process in workers] == [0, 0]
    assert sorted(map(int, written[0] + written[1])) == list(range(9))
    assert all(written)
    assert stored(bucket) == whole


def test_one_killed_is_gone_on_with(bucket: Url, whole: dict[str, bytes]) -> None:
    victim = worker(bucket)
    assert victim.stdout is not None
    victim.stdout.readline()
    time.sleep(0.1)
    victim.kill()
    assert victim.wait() == -signal.SIGKILL
    victim.stdout.close()
    assert any("leases" in name for name in stored(bucket))
    begun = {name for name in stored(bucket) if name.startswith("commits/base")}
    store = FeatureStore.open(bucket)
    assert store.verify() == []
    successor = worker(bucket)
    written = successor.communicate(timeout=200)[0].split()
    assert len(written) == 9 - len(begun)
    assert stored(bucket) == whole


def test_an_outage_stops_the_run_and_marks_no_image(
    bucket: Url, photos: Path, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    extract(
        open_source(str(bucket / "photos")), f"{bucket}/whole", backbone=StubBackbone(),
        rows_per_shard=8,
    )  # fmt: skip
    source = open_source(str(bucket / "photos"))
    for method, number in (("GET", 30), ("PUT", 30), ("GET", 20)):
        wire.cut_after(number, method)
        with pytest.raises(RemoteError, match="cannot be reached"):
            extract(source, f"{bucket}/s.zarr", backbone=StubBackbone(), rows_per_shard=8)
        wire.mend()
        assert FeatureStore.open(bucket / "s.zarr").verify() == []
    summary = extract(source, f"{bucket}/s.zarr", backbone=StubBackbone(), rows_per_shard=8)
    assert summary.failed == {"not-an-image": 1}
    assert 0 < summary.done_now < summary.rows
    assert stored(bucket / "s.zarr") == stored(bucket / "whole")


def test_the_command_line_takes_urls(bucket: Url, photos: Path) -> None:
    store, run = f"{bucket}/s.zarr", photos.parent / "run"
    result = run_cli("extract", f"{bucket}/photos/", "--out", store, "--backbone", "tiny")
    assert (result.code, result.err) == (0, "")
    assert f"next: selectkit split {store}" in result.out
    for arguments in (["split", store], ["inspect", store], ["verify", store, "--repair"]):
        result = run_cli(*arguments)
        assert result.code == 0
    assert run_cli("fit", store, "--out", run).code == 0
    assert f'store = "{store}"' in (run / "config.toml").read_text()
    assert run_cli("calibrate", run, "--target", "error=0.5").code in {0, 1}
    assert run_cli("evaluate", run, "--store", store).code == 0
    compared = run_cli("bench", "policies", store, "--target", "error=0.5", "--splits", 20)
    assert f"(val_calib and val_test of {store} by linear-" in compared.out
    assert run_cli("inspect", photos.as_uri()).err.count("\n") == 1
    for wrong in (["fit", store, "--out", f"{bucket}/run"], ["evaluate", f"{bucket}/run"]):
        result = run_cli(*wrong)
        assert result.code == 2
        assert "a run directory must be a local folder" in result.err


def test_a_report_reads_the_images_it_shows_and_no_listing(
    bucket: Url, photos: Path, wire: Wire
) -> None:
    store, run = photos.parent / "s.zarr", photos.parent / "run"
    extract(open_source(f"{bucket}/photos/"), store, backbone=StubBackbone())
    fit(store, out=run)
    calibrate(run, target="coverage=0.5")
    wire.requests.clear()
    evaluate(run, replicates=100, thumbnails=3)
    seen = (run / "report.html").read_text(encoding="utf-8").count("<img ")
    assert 0 < seen <= 6
    assert sorted(method for method, _ in wire.requests) == ["GET"] * seen
    assert all("/photos/" in path and path.endswith(".png") for _, path in wire.requests)
    wire.cut()
    before = len(wire.requests)
    evaluate(run, replicates=100, thumbnails=3)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.count("image not available") == seen
    assert "<img " not in page
    assert len(wire.requests) == before


def test_the_command_line_says_an_outage_in_one_line(bucket: Url, photos: Path, wire: Wire) -> None:
    wire.cut()
    result = run_cli("extract", str(photos), "--out", f"{bucket}/s.zarr", "--backbone", "tiny")
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert result.err.startswith(f"error: {bucket}/s.zarr")
    assert "cannot be reached" in result.err


def test_sources_compare_by_what_they_list(bucket: Url, photos: Path) -> None:
    one, two = (FolderSource.open(bucket / "photos") for _ in range(2))
    assert one == two
