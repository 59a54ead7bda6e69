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

import tomllib
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from selectkit import artifact, calibrate, heads
from selectkit.cache import Features, FeatureStore
from selectkit.config import RunConfig, read_toml, to_toml
from selectkit.errors import ArtifactError, CacheError, ConfigError, DataError, LeakageError
from selectkit.pipeline.active import POLICY_FILES, SCORE_FILES, active_policy
from selectkit.pipeline.fitted import FittedHead, recode, view_hash
from selectkit.pipeline.log import LOG, events_since_fit, log_event
from selectkit.pipeline.logits import gate_of, logits_of
from selectkit.policies import CascadePolicy, ExitPolicy, Outputs

CHECKPOINT = "checkpoint"
_UNFINISHED = {CHECKPOINT, LOG, "tensorboard"}

MEASURED = (
    "metrics.json", "metrics.csv", "report.html", "report.json", "report.safetensors",
    "comparison.json", "comparison.csv", "comparison.md", "comparison.html",
)  # fmt: skip
DEPENDENTS = (
    "calibrator.json", *POLICY_FILES, *SCORE_FILES, *MEASURED,
    "sweep.json", "sweep.csv", "sweep.html",
)  # fmt: skip


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

    def save_calibrator(self, calibrator: calibrate.Calibrator, fitted_on: str) -> str:
        """Write calibrator.json.

        Args:
            calibrator: The fitted calibrator.
            fitted_on: Fingerprint of the split.

        Returns:
            Its content hash.
        """
        about = {"fitted_on": fitted_on, "head": self.head.hash}
        document = {**calibrator.to_dict(), **about}
        return artifact.save(self.path / "calibrator.json", "calibrator", document)

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

    def forget_measurements(self) -> None:
        """Remove what was measured of a policy that is no longer the active one."""
        for name in MEASURED:
            (self.path / name).unlink(missing_ok=True)

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
        return events_since_fit(self.path)

    def log(self, event: str, **fields: Any) -> None:
        """Append one event to log.jsonl."""
        log_event(self.path, event, **fields)
