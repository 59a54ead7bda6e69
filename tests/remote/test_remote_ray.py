"""Workers of a Ray cluster write into a store in an object store."""

from functools import partial
from pathlib import Path

import pytest

from selectkit.extract import extract, open_source
from selectkit.location import Url
from tests.remote.test_remote_store import files, stored
from tests.unit.extract.extract_tools import StubBackbone, image_folder
from tests.unit.extract.ray_tools import SlowBackbone, build

pytest.importorskip("ray")

from selectkit.extract.ray_cluster import cluster
from selectkit.extract.ray_engine import extract_on_ray


def test_two_workers_and_an_object_store(bucket: Url, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", {"a": 200})
    backbone = SlowBackbone(delay=0.2)
    part = partial(build, str(folder), str(bucket), tmp_path, backbone, 20, False)
    with cluster(None, 2):
        summary = extract_on_ray(part, actors=2)
    assert (summary.done_now, summary.elsewhere, summary.interrupted) == (200, 0, False)
    local = tmp_path / "local"
    extract(open_source(folder), local, backbone=StubBackbone(), rows_per_shard=20)
    assert stored(bucket) == files(local)
