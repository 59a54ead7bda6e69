"""What the first release wrote is read for ever: these files are never made anew."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from selectkit.cache import FeatureStore
from selectkit.pipeline import RunDirectory, evaluate
from selectkit.policies import SoftmaxPolicy

V1 = Path(__file__).parent / "v1"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return shutil.copytree(V1, tmp_path / "v1")


def test_the_store_is_whole_and_has_its_values(files: Path) -> None:
    store = FeatureStore.open(files / "store.zarr")
    assert store.verify() == []
    test = store.read("base", "val_test")
    assert test.classes == ("no", "yes")
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 400)
    x = rng.normal(size=(400, 4)) + 1.5 * y[:, None] * [1, 1, 0, 0]
    np.testing.assert_array_equal(test.x, x.astype(np.float32).astype(np.float16)[test.rows])
    np.testing.assert_array_equal(test.y, y[test.rows])
    unlabelled = set(range(0, 400, 50))
    assert unlabelled.isdisjoint(store.read("base", None).rows.tolist())


def test_the_run_decides_as_it_did(files: Path) -> None:
    run = RunDirectory.open(files / "run")
    before = json.loads((files / "run/metrics.json").read_text())
    store = run.store(files / "store.zarr")
    policy, document = run.policy()
    assert isinstance(policy, SoftmaxPolicy)
    _, outputs = run.outputs(store, "val_test", run.calibrator()[0])
    accepted = policy.decide(outputs).accepted
    assert accepted.mean() == before["metrics"]["operating"]["coverage"]["value"]
    assert document["format_version"] == 1
    assert policy.certificate is not None
    assert policy.certificate.kind == "pac"


def test_evaluating_it_again_gives_the_same_values(files: Path) -> None:
    before = json.loads((files / "run/metrics.json").read_text())["metrics"]
    again = evaluate(files / "run", store=files / "store.zarr", replicates=100).document["metrics"]
    for section, names in before.items():
        for name, estimate in names.items():
            if estimate["value"] is None:
                assert again[section][name]["value"] is None
            else:
                assert again[section][name]["value"] == pytest.approx(estimate["value"], abs=1e-9)
