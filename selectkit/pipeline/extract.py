"""The verb `extract`: images to a feature store."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from selectkit.config import ExtractConfig, build
from selectkit.extract import ExtractionSummary

T = TypeVar("T")
Ticker = Callable[[int, int, float], None]


@dataclass(frozen=True)
class ExtractSummary:
    """What an extraction did.

    Attributes:
        store: The store.
        view: The view that was written.
        work: Rows, failures, time, as the engine counted them.
    """

    store: Path
    view: str
    work: ExtractionSummary

    @property
    def interrupted(self) -> bool:
        """True when a signal stopped it; the same command goes on."""
        return self.work.interrupted

    @property
    def _lost(self) -> int:
        return sum(self.work.failed.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"store": str(self.store), "view": self.view, **asdict(self.work)}

    def lines(self) -> list[str]:
        """Return the summary as lines for people."""
        w = self.work
        held = w.skipped + w.done_now + w.elsewhere
        lines = [
            f"{self.store}: view {self.view} "
            + (f"stopped at {held:,} of {w.rows:,}" if w.interrupted else self._state(held))
            + f" images, {w.done_now:,} new, {w.skipped:,} cached before"
            + (f", {w.elsewhere:,} by other processes" if w.elsewhere else "")
            + f"; {w.seconds:.1f} s, {w.images_per_second:,.0f} img/s",
            *(f"  {what}: {n:,}" for what, n in asdict(w.changes).items() if n),
            *(f"  failed: {reason}: {n:,}" for reason, n in sorted(w.failed.items())),
        ]
        if w.interrupted:
            return [*lines, "run the same command again to go on"]
        usable = held == w.rows > self._lost
        return [*lines, f"next: selectkit split {self.store}"] if usable else lines

    def _state(self, held: int) -> str:
        rows = f"{self.work.rows:,}"
        return f"complete: {rows}" if held == self.work.rows else f"has {held:,} of {rows}"

    @property
    def warnings(self) -> list[str]:
        """What the user should look at."""
        if not self._lost or self._lost < self.work.rows:
            return []
        return ["not one image could be used; nothing can be fitted on this store"]


def extract(
    source: str | Path,
    *,
    out: str | Path,
    config: ExtractConfig | None = None,
    progress: Ticker | None = None,
    **settings: Any,
) -> ExtractSummary:
    """Send images once through a frozen backbone and cache what it says.

    Args:
        source: Folder per class, CSV or Parquet manifest, or "digits" (scikit-learn's images).
        out: Feature store to make, to complete, or to go on with.
        config: Settings; the defaults when None.
        progress: Called with (rows done, rows in all, images per second).
        **settings: Fields of `ExtractConfig`, over `config`.

    Returns:
        What was done.

    Raises:
        ConfigError: If a setting is unknown or unusable.
        DataError: If the source cannot be used.
        CacheError: If the store holds something else, or is damaged.
        BackboneError: If the backbone cannot be loaded.
    """
    from selectkit import extract as engine

    chosen = settled(ExtractConfig, config, settings)
    opened = engine.open_source(
        str(source), path=chosen.path, label=chosen.label, group=chosen.group, id=chosen.id
    )
    engine.require_readable(opened)
    backbone = engine.load_backbone(chosen.backbone, device=chosen.device, dtype=chosen.compute)
    summary = engine.extract(
        opened,
        Path(out),
        backbone=backbone,
        view=chosen.view,
        preprocessing=_preprocessing(backbone.preprocessing, chosen),
        dtype=chosen.dtype,
        batch_size=chosen.batch_size,
        rows_per_shard=chosen.rows_per_shard,
        shard_range=chosen.shard_range,
        rescan=chosen.rescan,
        progress=progress and (lambda p: progress(p.done, p.total, p.done / max(p.seconds, 1e-9))),
    )
    return ExtractSummary(store=Path(out), view=chosen.view, work=summary)


def settled(cls: type[T], config: T | None, settings: dict[str, Any]) -> T:
    """Return `config` (or the defaults) with `settings` over it, checked."""
    known = asdict(config) if config is not None else {}  # type: ignore[call-overload]
    return build(cls, known | settings)


def _preprocessing(default: Any, config: ExtractConfig) -> Any:
    changes: dict[str, Any] = {}
    if config.preprocess != "auto":
        changes["mode"] = config.preprocess
    if config.size is not None:
        changes["size"] = config.size
    return replace(default, **changes)
