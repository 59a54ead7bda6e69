import json
from pathlib import Path

import numpy as np
import pytest

from selectkit import artifact
from selectkit.errors import ArtifactError

CALIBRATOR = {
    "method": "temperature",
    "parameters": {"temperature": 1.5},
    "fitted_on": "sha256:" + "0" * 64,
    "head": "sha256:" + "1" * 64,
}


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "calibrator.json"
    artifact.save(path, "calibrator", CALIBRATOR)
    document, tensors = artifact.load(path, "calibrator")
    assert {k: document[k] for k in CALIBRATOR} == CALIBRATOR
    assert tensors == {}
    assert list(tmp_path.iterdir()) == [path]


def test_an_invalid_document_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not match its schema"):
        artifact.save(tmp_path / "calibrator.json", "calibrator", {"method": 3})
    assert not any(tmp_path.iterdir())


def test_unknown_version_and_kind_say_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "calibrator.json"
    artifact.save(path, "calibrator", CALIBRATOR)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
    with pytest.raises(ArtifactError, match=r"format version 99 is unknown .* Upgrade selectkit"):
        artifact.load(path, "calibrator")


def test_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    artifact.save(path, "calibrator", CALIBRATOR)
    with pytest.raises(ArtifactError, match="is a 'calibrator' artifact; expected 'head'"):
        artifact.load(path, "head")


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"head\.json is missing"):
        artifact.load(tmp_path / "head.json", "head")
    (tmp_path / "head.json").write_text("{")
    with pytest.raises(ArtifactError, match="not readable JSON"):
        artifact.load(tmp_path / "head.json", "head")
    (tmp_path / "head.json").write_text("[]")
    with pytest.raises(ArtifactError, match="must hold a JSON object"):
        artifact.load(tmp_path / "head.json", "head")


def test_a_failing_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    artifact.write_bytes(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as failure:
        artifact.write_bytes(path, b"new")
    assert failure.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_equal_values_hash_equal() -> None:
    assert artifact.content_hash({"a": 1, "b": 2}) == artifact.content_hash({"b": 2, "a": 1})
    assert artifact.content_hash({"a": 1}) != artifact.content_hash({"a": 2})
    known = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert artifact.content_hash(b"") == known


def test_swapped_weights_are_noticed(tmp_path: Path) -> None:
    from selectkit.heads import LinearHead

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), np.arange(40) % 2
    head = LinearHead.fit(x, y, select=(x, y), n_classes=2)
    document, tensors = head.to_artifact()
    run = {
        "classes": ["a", "b"], "positive": "b", "view": "base", "feature": "cls",
        "view_hash": "sha256:" + "0" * 64, "train_split": "sha256:" + "1" * 64,
        "select_split": "sha256:" + "2" * 64, "splits": {"salt": "s", "fractions": {"train": 1}},
    }  # fmt: skip
    path = tmp_path / "head.json"
    artifact.save(path, "head", {**document, **run}, tensors)
    weights = path.with_suffix(".safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ArtifactError, match="hash differs"):
        artifact.load(path, "head")
    weights.unlink()
    with pytest.raises(ArtifactError, match=r"head\.safetensors is missing"):
        artifact.load(path, "head")
