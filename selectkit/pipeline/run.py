"""The run directory: what was fitted, calibrated and measured, and from which data.

::

    config.toml         the resolved configuration, with the store
    head.json           + head.safetensors
    calibrator.json     probability calibrator
    thresholds.json     the active exit policy
    metrics.json        metrics.csv, report.html
    log.jsonl           one line per event

Each file names the hash of what it depends on, so a leftover of an earlier head is never used.
"""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from selectkit import artifact, calibrate, heads
from selectkit.arrays import Floats
from selectkit.cache import Features, FeatureStore
from selectkit.config import RunConfig, read_toml, to_toml
from selectkit.errors import ArtifactError, CacheError, ConfigError, DataError, LeakageError
from selectkit.policies import Outputs, SoftmaxPolicy

DEPENDENTS = ("calibrator.json", "thresholds.json", "metrics.json", "metrics.csv", "report.html")


@dataclass(frozen=True)
class FittedHead:
    """A head with everything that says what its inputs and outputs mean."""

    head: heads.Head
    document: dict[str, Any]
    hash: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Label names in the order of the logits."""
        return tuple(self.document["classes"])

    @property
    def positive(self) -> int | None:
        """Index of the positive class, None when there is none."""
        label = self.document["positive"]
        return None if label is None else self.classes.index(label)

    @property
    def view(self) -> str:
        """View of the store that the head reads."""
        return str(self.document["view"])

    @property
    def feature(self) -> str:
        """Feature of the view that the head reads."""
        return str(self.document["feature"])

    @property
    def name(self) -> str:
        """Name under which the logits stand in the store."""
        return f"{self.document['type']}-{self.hash.removeprefix('sha256:')[:12]}"


@dataclass(frozen=True)
class RunDirectory:
    """A run on disk. Make one with `create`, read one with `open`."""

    path: Path
    config: RunConfig

    @classmethod
    def create(cls, path: Path, config: RunConfig) -> Self:
        """Make the folder, or empty an earlier run of everything that its head had produced.

        Args:
            path: The folder.
            config: Configuration, with the store.

        Returns:
            The run.

        Raises:
            ConfigError: If the path is a file, or a folder that is no run.
        """
        if path.is_file() or (path.is_dir() and any(path.iterdir()) and not cls._is_run(path)):
            raise ConfigError(f"{path} exists and is no run directory; choose another --out.")
        path.mkdir(parents=True, exist_ok=True)
        for name in DEPENDENTS:
            (path / name).unlink(missing_ok=True)
        return cls(path, config)._with_config(config)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing run.

        Args:
            path: The folder.

        Returns:
            The run.

        Raises:
            ArtifactError: If the folder is no run.
        """
        if not cls._is_run(path):
            raise ArtifactError(f"no run at {path}: `selectkit fit STORE --out {path}` makes one.")
        return cls(path, read_toml(path / "config.toml"))

    @staticmethod
    def _is_run(path: Path) -> bool:
        return (path / "config.toml").is_file()

    def _with_config(self, config: RunConfig) -> Self:
        artifact.write_bytes(self.path / "config.toml", to_toml(config).encode())
        return replace(self, config=config)

    def update(self, **tables: Any) -> "RunDirectory":
        """Write changed tables of the configuration; return the run that has them."""
        return self._with_config(replace(self.config, **tables))

    def store(self, moved_to: Path | None = None) -> FeatureStore:
        """Open the run's feature store.

        Args:
            moved_to: Where the store is now, when it is no longer where the run was fitted.

        Returns:
            The store.

        Raises:
            CacheError: If there is none, or its view is not the one that the head was fitted on.
            LeakageError: If its split is not the one that the head was fitted on.
        """
        store = FeatureStore.open(moved_to or Path(self.config.store or ""))
        head = self.head
        if store.view(head.view).hash != head.document["view_hash"]:
            raise CacheError(
                f"view {head.view!r} of {store.path} is not the one {self.path} was fitted on "
                "(other backbone, weights or preprocessing). Fit again, or pass the right --store."
            )
        if store.splits.to_dict() != head.document["splits"]:
            raise LeakageError(
                f"{store.path} is split by {store.splits.to_dict()}, but {self.path} was fitted "
                f"on {head.document['splits']}: rows the head has seen could now certify it. "
                f"Fit again."
            )
        return store

    def save_head(self, head: heads.Head, about: dict[str, Any]) -> FittedHead:
        """Write head.json and head.safetensors.

        Args:
            head: The fitted head.
            about: classes, positive, view, view_hash, feature, splits and split fingerprints.

        Returns:
            The head as `self.head` will read it.
        """
        document, tensors = head.to_artifact()
        artifact.save(self.path / "head.json", "head", {**document, **about}, tensors)
        return self.head

    @cached_property
    def head(self) -> FittedHead:
        """The fitted head.

        Raises:
            ArtifactError: If it is missing or damaged.
        """
        document, tensors = artifact.load(self.path / "head.json", "head")
        return FittedHead(heads.load(document, tensors), document, artifact.content_hash(document))

    def calibrator(self) -> tuple[calibrate.Calibrator, str]:
        """Return the probability calibrator and its content hash.

        Raises:
            ArtifactError: If it is missing, damaged, or belongs to another head.
        """
        document = self._dependent("calibrator.json", "calibrator")
        return calibrate.from_dict(document), artifact.content_hash(document)

    def policy(self) -> tuple[SoftmaxPolicy, dict[str, Any]]:
        """Return the active exit policy and its document.

        Raises:
            ArtifactError: If it is missing, damaged, or belongs to another head or calibrator.
        """
        document = self._dependent("thresholds.json", "thresholds")
        if document["calibrator"] != self.calibrator()[1]:
            raise ArtifactError(
                f"{self.path / 'thresholds.json'} belongs to another calibrator. Calibrate again."
            )
        return SoftmaxPolicy.from_dict(document), document

    def _dependent(self, name: str, kind: str) -> dict[str, Any]:
        path = self.path / name
        if not path.is_file():
            raise ArtifactError(
                f"{path} is missing: run `selectkit calibrate {self.path} --target ...` first."
            )
        document, _ = artifact.load(path, kind)
        if document["head"] != self.head.hash:
            raise ArtifactError(f"{path} belongs to another head. Calibrate again.")
        return document

    def outputs(
        self, store: FeatureStore, split: str, calibrator: calibrate.Calibrator | None = None
    ) -> tuple[Features, Outputs]:
        """Read one split: its rows, and what the head says about them.

        Args:
            store: The run's store.
            split: Name of the split.
            calibrator: Turns logits into probabilities; the identity when None.

        Returns:
            The labelled rows of the split with class codes of the head, and the outputs.

        Raises:
            DataError: If the split has no labelled row.
        """
        rows = store.read(self.head.view, split, feature=self.head.feature)
        features = recode(rows, self.head.classes)
        if not len(features.rows):
            raise DataError(
                f"split {split} of {store.path} has no labelled image; `selectkit split "
                f"{store.path}` shows the sizes."
            )
        z = logits_of(self.head, store)[features.rows]
        p = (calibrator or calibrate.Identity()).probabilities(z)
        return features, Outputs(logits=z.astype(np.float64), probabilities=p)

    def log(self, event: str, **fields: Any) -> None:
        """Append one event to log.jsonl."""
        import structlog

        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            logger = structlog.wrap_logger(
                structlog.WriteLogger(file),
                processors=[
                    structlog.processors.TimeStamper(fmt="iso", utc=True),
                    structlog.processors.JSONRenderer(ensure_ascii=False),
                ],
            )
            logger.info(event, **json.loads(json.dumps(fields, default=str)))


def logits_of(head: FittedHead, store: FeatureStore) -> Floats:
    """Return the head's logits for every row of the store, float32 (N, K), NaN where none.

    They are computed once per head and view, and written back to the store; they are computed
    again when the store has grown.
    """
    known = store.heads(head.view).get(head.name)
    written_shards = store.committed(f"{head.view}.logits.{head.name}")
    if known and known.head_hash == head.hash and written_shards == store.committed(head.view):
        written = store.logits(head.view, head.name)
        return _spread(written[written.rows], written.rows, written.shape)
    everything = store.read(head.view, None, feature=head.feature, labelled=False)
    z = _spread(head.head.logits(everything.x), everything.rows, (store.rows, len(head.classes)))
    store.write_logits(head.view, head.name, z, classes=head.classes, head_hash=head.hash)
    return z


def _spread(values: Floats, rows: npt.NDArray[np.int64], shape: tuple[int, int]) -> Floats:
    z = np.full(shape, np.nan, dtype=np.float32)
    z[rows] = values
    return z


def recode(features: Features, classes: tuple[str, ...]) -> Features:
    """Give class codes their meaning in `classes`; rows of classes it lacks are refused.

    Raises:
        DataError: If a label is none of `classes`.
    """
    if features.classes == classes:
        return features
    lookup = np.array(
        [classes.index(name) if name in classes else -2 for name in features.classes] + [-1]
    )
    y: npt.NDArray[np.int64] = lookup[features.y]
    if (y == -2).any():
        unknown = sorted({features.classes[code] for code in features.y[y == -2]})
        raise DataError(
            f"the store has labels {unknown} that the head was not fitted on "
            f"(it knows {list(classes)}). Fit again."
        )
    return replace(features, y=y, classes=classes)
