"""The run directory: what was fitted, calibrated and measured, and from which data.

::

    config.toml         the resolved configuration, with the store
    head.json           + head.safetensors
    calibrator.json     probability calibrator
    thresholds.json     the active exit policy: this, or gateparams.json of a gate,
                        scrcparams.json of prediction sets, cascade.json of several runs
    score.json          + score.safetensors: the policy's score, where it has numbers of its own
    metrics.json        metrics.csv, report.html
    report.json         + report.safetensors: what the report is drawn from
    comparison.json     comparison.{csv,md,html}: this run and others on the same test rows
    log.jsonl           one line per event, and per epoch of a training
    checkpoint/         only while a fit is unfinished

Each file names the hash of what it depends on, so a leftover of an earlier head is never used.
"""

import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from selectkit import artifact, calibrate, heads
from selectkit.arrays import Floats
from selectkit.cache import Features, FeatureStore, Rows
from selectkit.cache.reading import not_finite
from selectkit.config import RunConfig, read_toml, to_toml
from selectkit.errors import ArtifactError, CacheError, ConfigError, DataError, LeakageError
from selectkit.pipeline.active import POLICY_FILES, SCORE_FILES, active_policy
from selectkit.policies import CascadePolicy, ExitPolicy, Outputs

R = TypeVar("R", bound=Rows)

CHECKPOINT, LOG = "checkpoint", "log.jsonl"
_UNFINISHED = {CHECKPOINT, LOG, "tensorboard"}
_BLOCK_ENTRIES = 2**24

MEASURED = (
    "metrics.json", "metrics.csv", "report.html", "report.json", "report.safetensors",
    "comparison.json", "comparison.csv", "comparison.md", "comparison.html",
)  # fmt: skip
DEPENDENTS = (
    "calibrator.json", *POLICY_FILES, *SCORE_FILES, *MEASURED,
    "sweep.json", "sweep.csv", "sweep.html",
)  # fmt: skip


@dataclass(frozen=True)
class FittedHead:
    """A head with everything that says what its inputs and outputs mean."""

    head: heads.Head
    document: dict[str, Any]
    hash: str
    fitted_images: npt.NDArray[np.uint64]

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
        """View of the store that the head reads; "a+b" for a and b side by side."""
        return str(self.document["view"])

    @property
    def home(self) -> str:
        """View in which its logits lie: the first that it reads."""
        return self.view.partition("+")[0]

    @property
    def feature(self) -> str:
        """Feature of the view that the head reads."""
        return str(self.document["feature"])

    @property
    def name(self) -> str:
        """Name under which the logits stand in the store."""
        return f"{self.document['type']}-{self.hash.removeprefix('sha256:')[:12]}"

    def seen_elsewhere(self, store: FeatureStore) -> int:
        """Return how many images of val_calib and val_test the head was fitted on.

        Images that also stand in the store's own train or val_select are not counted: they are
        identical copies in several groups, of which `selectkit split` warns.
        """
        index = store.index()
        split, images = store.splits.assign(index.key), image_keys(index.content_hash)
        held_out = images[np.isin(split, ("val_calib", "val_test"))]
        copies = images[np.isin(split, ("train", "val_select"))]
        return int((np.isin(held_out, self.fitted_images) & ~np.isin(held_out, copies)).sum())


def image_keys(content_hashes: npt.NDArray[np.object_]) -> npt.NDArray[np.uint64]:
    """Return the first 64 bits of content hashes; 0 for files that could not be read."""
    digits = (str(h).removeprefix("sha256:")[:16] or "0" for h in content_hashes)
    return np.array([int(d, 16) for d in digits], dtype=np.uint64)


@dataclass(frozen=True)
class RunDirectory:
    """A run on disk. Make one with `create`, read one with `open`."""

    path: Path
    config: RunConfig

    @classmethod
    def require_usable(cls, path: Path) -> None:
        """Refuse a place that `create` must not write to.

        Args:
            path: The folder to be.

        Raises:
            ConfigError: If the path is a file, or a folder that is no run.
        """
        others = path.is_dir() and {p.name for p in path.iterdir()} - _UNFINISHED
        if path.is_file() or (others and not cls._is_run(path)):
            raise ConfigError(f"{path} exists and is no run directory; choose another --out.")

    @classmethod
    def create(cls, path: Path, config: RunConfig) -> Self:
        """Make the folder, or empty an earlier run of everything that its head had produced.

        Args:
            path: The folder.
            config: Configuration; its store and its table `fit` are written.

        Returns:
            The run.
        """
        cls.require_usable(path)
        path.mkdir(parents=True, exist_ok=True)
        for name in DEPENDENTS:
            (path / name).unlink(missing_ok=True)
        tables = {"store": config.store, "fit": asdict(config.fit)}
        artifact.write_bytes(path / "config.toml", to_toml(tables).encode())
        return cls(path, config)

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

    def update(self, table: str, settings: Any) -> None:
        """Write one more table of the configuration, the resolved settings of a command.

        Args:
            table: "calibrate" or "evaluate".
            settings: Its configuration class.
        """
        path = self.path / "config.toml"
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        artifact.write_bytes(path, to_toml({**tables, table: asdict(settings)}).encode())

    def store(self, moved_to: str | Path | None = None) -> FeatureStore:
        """Open the run's feature store.

        Args:
            moved_to: Where the store is now, when it is no longer where the run was fitted.

        Returns:
            The store.

        Raises:
            ConfigError: If the run does not say where its store is.
            CacheError: If there is none, or its view is not the one that the head was fitted on.
            LeakageError: If its split is not the one that the head was fitted on.
        """
        if moved_to is None and not self.config.store:
            raise ConfigError(f"{self.path / 'config.toml'} names no store; pass --store.")
        store = FeatureStore.open(moved_to or self.config.store or "")
        head = self.head
        if view_hash(store, head.view) != head.document["view_hash"]:
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
        seen = head.seen_elsewhere(store)
        if seen:
            raise LeakageError(
                f"{seen:,} images of val_calib and val_test of {store.path} were fitted on by "
                f"{self.path}: other groups have moved them to another split. Fit again."
            )
        return store

    def save_head(
        self, head: heads.Head, about: dict[str, Any], fitted_images: npt.NDArray[np.uint64]
    ) -> FittedHead:
        """Write head.json and head.safetensors.

        Args:
            head: The fitted head.
            fitted_images: `image_keys` of the images of train and val_select.
            about: classes, positive, view, view_hash, feature, splits and split fingerprints.

        Returns:
            The head as `self.head` will read it.
        """
        document, arrays = head.to_artifact()
        tensors = {**arrays, "fitted_images": np.sort(fitted_images)}
        artifact.save(self.path / "head.json", "head", {**document, **about}, tensors)
        return self.head

    @cached_property
    def head(self) -> FittedHead:
        """The fitted head.

        Raises:
            ArtifactError: If it is missing or damaged.
        """
        document, tensors = artifact.load(self.path / "head.json", "head")
        if "fitted_images" not in tensors:
            raise ArtifactError(f"{self.path / 'head.json'} does not say what it saw. Fit again.")
        return FittedHead(
            heads.load(document, tensors),
            document,
            artifact.content_hash(document),
            tensors["fitted_images"],
        )

    def calibrator(self) -> tuple[calibrate.Calibrator, str]:
        """Return the probability calibrator and its content hash.

        Raises:
            ArtifactError: If it is missing, damaged, or belongs to another head.
        """
        document = self._dependent("calibrator.json", "calibrator")
        return calibrate.from_dict(document), artifact.content_hash(document)

    def policy(self) -> tuple[ExitPolicy | CascadePolicy, dict[str, Any]]:
        """Return the active exit policy and its document.

        Raises:
            ArtifactError: If it is missing, damaged, one of two, or belongs to another head,
                calibrator or score.
        """
        return active_policy(self.path, self._dependent, self.calibrator()[1])

    def has_feasible_policy(self) -> bool:
        """Whether the run has an active policy that accepts anything."""
        try:
            return self.policy()[0].infeasible is None
        except ArtifactError:
            return False

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
        gate = gate_of(self.head, store)
        return features, Outputs(
            logits=z.astype(np.float64),
            probabilities=p,
            features=features.x,
            gate=None if gate is None else gate[features.rows].astype(np.float64),
            head=self.head.head.logits,
        )

    def events(self) -> list[dict[str, Any]]:
        """Return the events of log.jsonl since the head was fitted, oldest first."""
        path = self.path / "log.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        events = [json.loads(line) for line in lines]
        fits = [i for i, event in enumerate(events) if event["event"] == "fit"]
        return events[fits[-1] :] if fits else events

    def log(self, event: str, **fields: Any) -> None:
        """Append one event to log.jsonl."""
        log_event(self.path, event, **fields)


def log_event(run: Path, event: str, /, **fields: Any) -> None:
    """Append one event to the log of a run directory, made or yet to be made."""
    import structlog

    with (run / LOG).open("a", encoding="utf-8") as file:
        logger = structlog.wrap_logger(
            structlog.WriteLogger(file),
            processors=[
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
        logger.info(event, **json.loads(json.dumps(fields, default=str)))


def view_hash(store: FeatureStore, view: str) -> str:
    """Return the hash of a view, or of several, "a+b", in their order."""
    hashes = [store.view(name).hash for name in view.split("+")]
    return hashes[0] if len(hashes) == 1 else artifact.content_hash(hashes)


def logits_of(head: FittedHead, store: FeatureStore) -> Floats:
    """Return the head's logits for every row of the store, float32 (N, K), NaN where none.

    They are computed once per head and view, and written back to the store; they are computed
    again when the store has grown or they are damaged.
    """
    return _cached(head, store, head.name, head.classes, head.head.logits)


def gate_of(head: FittedHead, store: FeatureStore) -> Floats | None:
    """Return the gate's logits for every row, float32 (N,), as `logits_of`; None without a gate."""
    compute: Callable[[Floats], Floats] | None = getattr(head.head, "gate_logits", None)
    if compute is None:
        return None
    z = _cached(head, store, f"{head.name}-gate", ("gate",), lambda x: compute(x)[:, np.newaxis])
    return np.asarray(z[:, 0])


def _cached(
    head: FittedHead,
    store: FeatureStore,
    name: str,
    columns: tuple[str, ...],
    compute: Callable[[Floats], Floats],
) -> Floats:
    written = _written(head, store, name)
    if written is not None:
        return written
    z = logits_by_blocks(store, head.view, head.feature, compute, len(columns))
    store.write_logits(head.view, name, z, classes=columns, head_hash=head.hash)
    return z


def logits_by_blocks(
    store: FeatureStore,
    view: str,
    feature: str,
    compute: Callable[[Floats], Floats],
    n_columns: int,
) -> Floats:
    """Apply a head to every row of a store, some rows in memory at a time.

    Args:
        store: The store.
        view: View, or "a+b".
        feature: Feature of it.
        compute: Maps features (M, D) to (M, K).
        n_columns: K.

    Returns:
        Shape (N, K), float32; NaN where there are no features.
    """
    everything = store.rows_of(view, None, labelled=False)
    z = np.full((store.rows, n_columns), np.nan, dtype=np.float32)
    for start, block in feature_blocks(store, view, feature, everything):
        z[everything.rows[start : start + len(block)]] = compute(block)
    return z


def feature_blocks(
    store: FeatureStore, view: str, feature: str, rows: Rows
) -> Iterator[tuple[int, Floats]]:
    """Read features of rows, 64 megabytes at a time.

    Args:
        store: The store.
        view: View, or "a+b".
        feature: Feature of it.
        rows: The rows.

    Yields:
        Place of the first row, and the features of a block of rows, float32.

    Raises:
        DataError: If the features of a row are not finite; its id is named.
    """
    x = heads.LazyRows(*store.arrays(view, feature, rows.rows), rows=rows.rows)
    height = max(1, _BLOCK_ENTRIES // x.shape[1])
    for start in range(0, len(rows.rows), height):
        block = np.asarray(x[start : start + height], dtype=np.float32)
        wrong = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if wrong.size:
            raise DataError(not_finite(rows.ids[start + wrong[0]], view, wrong.size))
        yield start, block


def _written(head: FittedHead, store: FeatureStore, name: str) -> Floats | None:
    """The logits in the store; None when they are absent, incomplete or damaged."""
    known = store.heads(head.home).get(name)
    shards = store.committed(f"{head.home}.logits.{name}")
    if known is None or known.head_hash != head.hash or shards != store.committed(head.view):
        return None
    try:
        written = store.logits(head.home, name)
        for shard in shards:
            written.check(shard)
    except CacheError:
        return None
    return _spread(written[written.rows], written.rows, written.shape)


def _spread(values: Floats, rows: npt.NDArray[np.int64], shape: tuple[int, int]) -> Floats:
    z = np.full(shape, np.nan, dtype=np.float32)
    z[rows] = values
    return z


def recode(features: R, classes: tuple[str, ...]) -> R:
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
