"""What the page of a run tells its reader besides figures: terms of a promise, rare classes."""

from pathlib import Path

import numpy as np
import pytest

from selectkit.pipeline import RunDirectory, calibrate, evaluate, fit
from tests.unit.pipeline.pipeline_samples import blobs, store_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of class c there are few images, so that a split of them has nearly none."""
    folder = tmp_path_factory.mktemp("page")
    x, labels = blobs(1500, k=3, distance=1.5)
    few = np.array([label == "c" for label in labels])
    kept = np.flatnonzero(~few | (np.cumsum(few) <= 30))
    store = store_of(folder / "s.zarr", x[kept], [labels[i] for i in kept])
    fit(str(store.path), out=folder / "run")
    return folder / "run"


def test_a_certified_promise_comes_with_what_it_assumes(run: Path) -> None:
    calibrate(run, target="error=0.3")
    found = evaluate(run, replicates=100, thumbnails=0)
    promise, *_, terms = found.certificate
    policy, _ = RunDirectory.open(run).policy()
    assert promise == policy.sentences()[0]
    assert terms.startswith("This assumes that the samples to come are drawn independently from")
    assert all(a in terms for c in policy.certificates for a in c.assumptions)
    assert terms in (run / "report.html").read_text(encoding="utf-8")


def test_a_wish_comes_with_a_note_instead(run: Path) -> None:
    calibrate(run, target="coverage=0.8")
    *_, terms = evaluate(run, replicates=100, thumbnails=0).certificate
    assert terms.startswith("Note: no error rate is promised")


def test_classes_with_few_test_images_are_named(run: Path) -> None:
    calibrate(run, target="error=0.3")
    found = evaluate(run, replicates=100, thumbnails=0)
    n = int(found.document["metrics"]["class c"]["images"]["value"])
    assert 0 < n < 10
    assert f"val_test has fewer than 10 images of 'c' ({n}): figures over all images hide" in (
        " ".join(found.warnings)
    )
