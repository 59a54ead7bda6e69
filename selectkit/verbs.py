"""Rooms that are verbs too: `selectkit.calibrate` holds calibrators, and can be called.

The command line's verbs are offered as functions of the package (`sk.fit(...)`). Two of them,
`extract` and `calibrate`, share their name with a room, so these modules are made callable.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Verb(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self.__name__.rpartition(".")[2]
        return getattr(import_module("selectkit.pipeline"), name)(*args, **kwargs)


def also_a_verb(module: str) -> None:
    """Make a room callable: calling it calls the function of that name in the pipeline."""
    sys.modules[module].__class__ = _Verb
