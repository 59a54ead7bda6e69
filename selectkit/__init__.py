"""Selective classification from cached features: accept or defer, with evidence.

>>> import selectkit as sk
>>> sk.__version__
'0.1.0'

The verbs of the command line are functions here: `sk.extract`, `sk.split`, `sk.fit`,
`sk.calibrate`, `sk.compare`, `sk.evaluate`, `sk.plan`, `sk.bench_policies`; `sk.sweep`
is `fit --sweep`. They are imported when they are first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_ROOMS = ("calibrate", "extract")
_VERBS = ("bench_policies", "compare", "evaluate", "fit", "plan", "split", "sweep")


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"selectkit.{name}")
    if name in _VERBS:
        return getattr(import_module("selectkit.pipeline"), name)
    raise AttributeError(f"module 'selectkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS, *_VERBS])
