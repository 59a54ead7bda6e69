"""What an interrupted fit leaves behind, and what the same command goes on from.

`RUN/checkpoint` holds the state of trainings that are not finished and the heads of those that are.
Each file is named by a hash of everything that its contents depend on (settings, rows, view,
versions): another command never finds it, so nothing stale is ever used. Whoever finishes removes
the folder, with whatever other commands had left in it.
"""

import json
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from selectkit import __version__, heads
from selectkit.artifact import content_hash, write_bytes
from selectkit.errors import CacheError, RemoteError, SelectkitError
from selectkit.pipeline.run import CHECKPOINT


class Unfinished:
    """The checkpoint folder of a run, for the time of one fit."""

    def __init__(self, run: Path) -> None:
        """Nothing is made yet.

        Args:
            run: The run directory, which may not exist yet.
        """
        self.run = run
        self._folder = run / CHECKPOINT

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the folder, unless the fit was interrupted, or the store gave way under it."""
        given_way = kind is not None and issubclass(kind, CacheError | RemoteError)
        if kind is None or (issubclass(kind, SelectkitError) and not given_way):
            self.remove()

    def remove(self) -> None:
        """Remove the folder, and a run directory that holds nothing else."""
        if not self._folder.is_dir():
            return
        for file in self._folder.iterdir():
            if file.name.removeprefix(".").startswith(("fit-", "head-")):
                file.unlink()
        for folder in (self._folder, self.run):
            if not any(folder.iterdir()):
                folder.rmdir()

    def training(self, key: str) -> Path:
        """Return where a training keeps its state; the folder exists then."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / f"fit-{key}.safetensors"

    def keep(self, key: str, head: heads.Head) -> None:
        """Keep a finished head until everything is finished."""
        from safetensors.numpy import save

        self._folder.mkdir(parents=True, exist_ok=True)
        document, tensors = head.to_artifact()
        arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        data = save(arrays, {"document": json.dumps(document, allow_nan=False)})
        write_bytes(self._folder / f"head-{key}.safetensors", data)

    def recall(self, key: str) -> heads.Head | None:
        """Return a head that was kept; None when there is none, or it cannot be read."""
        from safetensors import SafetensorError, safe_open

        path = self._folder / f"head-{key}.safetensors"
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                document = json.loads((file.metadata() or {})["document"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return heads.load(document, tensors)
        except (OSError, SafetensorError, KeyError, ValueError):
            return None


def key_of(**everything: Any) -> str:
    """Return the name of a checkpoint that depends on these JSON values, and on the versions."""
    versions = {"selectkit": __version__, "torch": version("torch"), "numpy": version("numpy")}
    return content_hash({**everything, "versions": versions}).removeprefix("sha256:")[:32]
