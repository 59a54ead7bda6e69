"""Rows to compare policies on: those of a feature store, by the logits that a head left in it.

The store knows of a head its name, its classes, and how rows were split when it had spoken. It does
not know which features the head reads.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from selectkit.cache import FeatureStore, Rows
from selectkit.cache.layout import logits_scope
from selectkit.calibrate import Calibrator, Identity
from selectkit.config import BenchConfig, CalibrateConfig
from selectkit.errors import ConfigError, DataError, LeakageError
from selectkit.pipeline.bench_held_out import HELD_OUT, HeldOut, guide_of
from selectkit.pipeline.bench_rows import Float64s, Population
from selectkit.pipeline.calibrators import fitted_calibrator
from selectkit.pipeline.fitted import recode
from selectkit.pipeline.inputs import positive_index
from selectkit.pipeline.scores import calibrated_gate
from selectkit.policies import SCORES, Outputs
from selectkit.policies.scores import Gate

_NO_HEADS = ("-gate", "-oof")


@dataclass(frozen=True, slots=True)
class StoredHead:
    """A head of which there are only the logits.

    Attributes:
        store: The store.
        view: View that holds them.
        name: Name of the head.
        classes: The K label names.
        gated: Whether there are logits of a gate, too.
    """

    store: FeatureStore
    view: str
    name: str
    classes: tuple[str, ...]
    gated: bool

    @classmethod
    def of(cls, store: FeatureStore, config: BenchConfig) -> Self:
        """Find the only head, or the one that is asked for.

        Args:
            store: The store.
            config: Its head and view are used.

        Returns:
            The head.

        Raises:
            ConfigError: If there is none of that name, or there are several.
            DataError: If there is none at all, or it has not seen all rows.
            LeakageError: If the store was split otherwise, or does not say how.
        """
        view, name = _asked(store, config)
        heads = store.heads(view)
        found = cls(store, view, name, heads[name].classes, f"{name}-gate" in heads)
        for logits in (name, *([f"{name}-gate"] if found.gated else [])):
            found._require_all_rows(logits)
        _require_same_splits(store, name, heads[name].splits)
        return found

    def positive(self, code: int | None) -> int | None:
        """Return the code of the positive class.

        Args:
            code: What is asked for, or None for the default: the last of two classes.

        Returns:
            The code; None when there is no positive class.

        Raises:
            ConfigError: If no class has it.
        """
        if code is None:
            return positive_index(self.classes, None)
        if code >= len(self.classes):
            raise ConfigError(
                f"--positive {code}: {self.name} has the classes 0 = {self.classes[0]} to "
                f"{len(self.classes) - 1} = {self.classes[-1]}."
            )
        return code

    def outputs(self, split: str, calibrator: Calibrator) -> tuple[Rows, Outputs]:
        """Read one split: its labelled rows, and what the head says about them.

        Args:
            split: Name of the split.
            calibrator: Turns logits into probabilities.

        Returns:
            The rows with class codes of the head, and the outputs.

        Raises:
            DataError: If the split has no labelled row, or one of a class that the head lacks.
            CacheError: If the logits are damaged.
        """
        rows = recode(self.store.rows_of(self.view, split), self.classes)
        if not len(rows.rows):
            raise DataError(
                f"split {split} of {self.store.path} has no labelled image in view {self.view}; "
                f"`selectkit split {self.store.path}` shows the sizes and draws splits anew."
            )
        z = self._logits(self.name, rows)
        gate = self._logits(f"{self.name}-gate", rows)[:, 0] if self.gated else None
        return rows, Outputs(z, calibrator.probabilities(z), gate=gate)

    def _logits(self, name: str, rows: Rows) -> Float64s:
        array = self.store.logits(self.view, name)
        shards = np.unique(rows.rows // self.store.rows_per_shard).tolist()
        array.fetch(shards)
        for shard in shards:
            array.check(shard)
        return array[rows.rows].astype(np.float64)

    def _require_all_rows(self, logits: str) -> None:
        there = self.store.committed(logits_scope(self.view, logits))
        wanted = self.store.committed(self.view)
        held = sum(min(rows, there.get(shard, 0)) for shard, rows in wanted.items())
        if held < sum(wanted.values()):
            raise DataError(
                f"{self.store.path} holds the logits of {logits} for {held:,} of the "
                f"{sum(wanted.values()):,} rows of view {self.view}. Pass the head's run instead "
                "of the store, which computes the others, or fit again."
            )


def of_store(store: FeatureStore, config: BenchConfig) -> Population:
    """Read the held-out rows of a store, as a head's logits in it see them.

    Args:
        store: The store.
        config: Its head, view, score and positive class are used.

    Returns:
        Val_calib and val_test together, one image of each group. The usual calibrator is fitted on
        val_select, which guides.

    Raises:
        ConfigError: If a setting does not fit the store.
        DataError: If there are no logits, or not of all rows, or a split has no labelled row.
        CacheError: If the store is damaged.
        LeakageError: If it is no longer split as it was when the logits were written.
    """
    head = StoredHead.of(store, config)
    _check_score(config.score, head)
    positive = head.positive(config.positive)
    select, raw = head.outputs("val_select", Identity())
    fit = fitted_calibrator(CalibrateConfig().calibrator, raw, select)
    guide = Outputs(raw.logits, fit.calibrator.probabilities(raw.logits), gate=raw.gate)
    gate, about = calibrated_gate(select, guide) if head.gated else (None, ())
    parts = [head.outputs(split, fit.calibrator) for split in HELD_OUT]
    rows = HeldOut.of([part for part, _ in parts])
    joined = rows.joined([said for _, said in parts])
    return Population.of_arrays(
        joined,
        rows.labels,
        source=_source(head, positive),
        positive=positive,
        score=gate if gate is not None and config.score == gate.kind else config.score,
        guide=guide_of(select, guide),
        gate=None if gate is None else gate(joined),
        notes=(*fit.warnings, *about, *_lagging(head), *rows.notes()),
    )


def _asked(store: FeatureStore, config: BenchConfig) -> tuple[str, str]:
    """View and name of the head."""
    if config.view is not None:
        store.view(config.view)  # refuses one that is not there
    views = store.views() if config.view is None else (config.view,)
    found = [
        (view, name) for view in views for name in store.heads(view) if not name.endswith(_NO_HEADS)
    ]
    where = f"{store.path}" if config.view is None else f"view {config.view} of {store.path}"
    if not found:
        of_view = "" if config.view is None else f" --view {config.view}"
        raise DataError(
            f"{where} holds no logits of a head: `selectkit fit {store.path}{of_view} --out RUN` "
            "fits one and writes them."
        )
    named = [pair for pair in found if config.head in {None, pair[1]}]
    if not named:
        raise ConfigError(
            f"{where} holds no logits of --head {config.head}, but of {_list(found)}."
        )
    if len(named) > 1:
        flag = "--head" if config.head is None else "--view"
        raise ConfigError(
            f"{where} holds the logits of {_list(named)}: say which by {flag}, or pass a run."
        )
    return named[0]


def _list(heads: list[tuple[str, str]]) -> str:
    several = len({view for view, _ in heads}) > 1
    return ", ".join(f"{name} (view {view})" if several else name for view, name in heads)


def _require_same_splits(store: FeatureStore, name: str, before: object) -> None:
    now = store.splits.to_dict()
    if before is None:
        raise LeakageError(
            f"{store.path} does not say how it was split when the logits of {name} were written, "
            f"so {name} may have been fitted on these rows. Pass its run, which knows, or fit "
            "again."
        )
    if before != now:
        raise LeakageError(
            f"{store.path} is split by {now}, but by {before} when the logits of {name} were "
            f"written: {name} may have been fitted on these rows. Fit again."
        )


def _check_score(score: str, head: StoredHead) -> None:
    allowed = (*SCORES, *([Gate.kind] if head.gated else []))
    if score in allowed:
        return
    where, names = head.store.path, ", ".join(allowed)
    if score == Gate.kind:
        raise ConfigError(
            f"--score gate needs a head with a trained gate; {head.name} in {where} has none. Take "
            f"one of {names}."
        )
    raise ConfigError(
        f"--score {score} is fitted on the features that the head reads, and {where} does not say "
        f"which. Pass the run, or take one of {names}."
    )


def _lagging(head: StoredHead) -> tuple[str, ...]:
    held, store = sum(head.store.committed(head.view).values()), head.store
    if held == store.rows:
        return ()
    return (
        f"view {head.view} holds {held:,} of {store.rows:,} rows; run extract again to complete it",
    )


def _source(head: StoredHead, positive: int | None) -> str:
    which = "" if positive is None else f", positive: {head.classes[positive]}"
    return f"val_calib and val_test of {head.store.path} by {head.name} of view {head.view}{which}"
