"""Monitors read back: whatever is changed in a document is refused, or the monitor works."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from selectkit.errors import SelectkitError
from selectkit.risk import DriftWatch, KsReference, MmdReference, PsiReference, RiskMonitor

WRONG: list[Any] = [
    None, "x", "", "nan", True, -1, 0.5, 3, float("nan"), float("inf"), 10**400, [], [None], {},
]  # fmt: skip


def documents() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "weighted": RiskMonitor.start(0.05, least_probability=0.1).update([0, 1, 0], [0.5, 0.1, 1]),
        "detector": RiskMonitor.start(0.05, restarts="sum").update([0, 1, 0]),
        "ks": DriftWatch(KsReference.fit(rng.random(6), rng=rng), 0.05, 5),
        "psi": DriftWatch(PsiReference.fit(rng.random(300), bins=3), 0.05, 5),
        "mmd": DriftWatch(MmdReference.fit(rng.random((30, 2)), rng=rng, n_frequencies=2), 0.05, 5),
    }


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*at, key)
        if isinstance(part, dict | list):
            yield from places(part, (*at, key))


def changed(document: Any, at: tuple[Any, ...], value: Any) -> Any:
    if not at:
        return value
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[at[0]] = changed(copy[at[0]], at[1:], value)
    return copy


def used(document: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    if document["monitor"] == "risk":
        monitor = RiskMonitor.from_dict(document)
        monitor = monitor.update([0, 1], [1, 1] if monitor.least_probability < 1 else None)
        json.dumps(monitor.to_dict(), allow_nan=False)
        assert str(monitor.audited) in monitor.sentence()
        return
    watch = DriftWatch.from_dict(document)
    two = watch.reference.kind == "mmd"
    watch, signal = watch.look(rng.random((20, 2)) if two else rng.random(20))
    assert 0 <= signal.p_value <= 1


@pytest.mark.parametrize("name", documents())
def test_whatever_is_changed_is_refused_or_works(name: str) -> None:
    document = json.loads(json.dumps(documents()[name].to_dict()))
    used(document)
    for at in places(document):
        for value in WRONG:
            with contextlib.suppress(SelectkitError):
                used(changed(document, at, value) if at != ("monitor",) else document)
