"""Policies of the first release decide for ever as they did: these files are never made anew.

A document is changed in one field after the other, too: it is then refused, or says the same.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selectkit import artifact
from selectkit.errors import ArtifactError
from selectkit.policies import (
    CascadePolicy,
    Decision,
    GatePolicy,
    Outputs,
    ScrcPolicy,
    thresholds_policy,
)

FOLDER = Path(__file__).parent / "policies"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json") if path.stem != "rows")
EVERY = pytest.mark.parametrize("name", NAMES)
HASH = "sha256:" + "0" * 64
READ: dict[str, Any] = {
    "softmax": thresholds_policy,
    "gate": GatePolicy.from_dict,
    "scrc": ScrcPolicy.from_dict,
    "cascade": CascadePolicy.from_dict,
}
WRONG: list[Any] = [
    None, "x", "", "nan", True, -1, 0.5, 3, float("nan"), float("inf"), 10**400, [], [None], {},
    {"risk": "error"}, "inf", "-inf",
]  # fmt: skip


def golden(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def rows(key: str) -> Outputs:
    found = json.loads((FOLDER / "rows.json").read_text())[key]
    z, p, gate = (np.array(found[part]) for part in ("logits", "probabilities", "gate"))
    return Outputs(z, p, gate=gate)


def decide(policy: Any, classes: int) -> Decision:
    outputs = rows(str(classes))
    seen = [rows("2, weaker"), outputs] if isinstance(policy, CascadePolicy) else outputs
    found: Decision = policy.decide(seen)
    return found


def read(document: dict[str, Any]) -> Any:
    return READ[document["policy"]](document)


@EVERY
def test_it_decides_as_it_did(name: str) -> None:
    before = golden(name)
    policy = read(before["document"])
    d = decide(policy, before["rows"])
    assert d.accepted.astype(int).tolist() == before["accepted"]
    assert d.prediction.tolist() == before["prediction"]
    sets = ["".join(map(str, row)) for row in d.prediction_set.astype(int).tolist()]
    assert sets == before["sets"]
    assert (None if d.stage is None else d.stage.tolist()) == before["stage"]
    assert json.loads(json.dumps(policy.to_dict())) == before["document"]


@EVERY
def test_its_file_is_still_valid(name: str, tmp_path: Path) -> None:
    document = golden(name)["document"]
    policy = read(document)
    beside: dict[str, Any] = {"head": HASH, "calibrator": HASH, "split": "rows"}
    if policy.artifact == "gateparams":
        beside |= {"format_version": 2, "fitted_on": "rows"}
    path = tmp_path / f"{policy.artifact}.json"
    artifact.save(path, policy.artifact, {**document, **beside})
    again, _ = artifact.load(path, policy.artifact)
    assert read(again) == policy


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the fields of a document are, nested ones included."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in inner:
        yield (*at, key)
        if isinstance(part, dict | list):
            yield from places(part, (*at, key))


def changed(document: dict[str, Any], at: tuple[Any, ...], *value: Any) -> dict[str, Any]:
    """The document with one field replaced, or without it."""
    copy: dict[str, Any] = json.loads(json.dumps(document))
    place: Any = copy
    for key in at[:-1]:
        place = place[key]
    if value:
        place[at[-1]] = value[0]
    else:
        del place[at[-1]]
    return copy


@EVERY
def test_every_field_is_needed(name: str) -> None:
    before = golden(name)
    document = before["document"]
    same = decide(read(document), before["rows"]).accepted
    for key in document:
        if key == "policy":
            continue
        try:
            policy = read(changed(document, (key,)))
        except ArtifactError:
            continue
        assert key in {
            "certificates",
            "costs",
            "mean_cost",
            "form",
            "positive",
        }  # absent where there are none
        np.testing.assert_array_equal(decide(policy, before["rows"]).accepted, same)


@EVERY
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_is_changed_is_refused_or_decides(name: str, data: st.DataObject) -> None:
    before = golden(name)
    document = before["document"]
    at = data.draw(st.sampled_from([p for p in places(document) if p != ("policy",)]))
    value = data.draw(st.sampled_from(WRONG))
    try:
        policy = read(changed(document, at, value))
    except ArtifactError:
        return
    assert len(decide(policy, before["rows"]).accepted) == 40
    json.dumps(policy.to_dict(), allow_nan=False)
    assert read(policy.to_dict()) == policy


@EVERY
def test_a_threshold_that_is_not_the_certified_one_is_refused(name: str) -> None:
    document = golden(name)["document"]
    if document["infeasible"] is not None:
        for certified in ({"threshold": 0.0}, {"lambda1": 0.0}, {"thresholds": [0.1, 0.2]}):
            if set(certified) & set(document):
                with pytest.raises(ArtifactError):
                    read({**document, **certified})
        return
    several = document.get("certificates") or [document["certificate"]]
    for level in ({"delta": 0.2}, {"alpha": 0.7}, {"threshold": 1.5}, {"n_accepted": 10**9}):
        if "alpha" in level and document.get("target") == []:
            continue  # the level is what was found for given costs
        other = [{**several[0], **level}, *several[1:]]
        with pytest.raises(ArtifactError):
            read({**document, "certificates": other, "certificate": other[0]})
