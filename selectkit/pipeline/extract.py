"""The verb `extract`: images to a feature store."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from selectkit.config import ExtractConfig, build

T = TypeVar("T")
Ticker = Callable[[int, int, float], None]


@dataclass(frozen=True)
class ExtractSummary:
    """What an extraction did.

    Attributes:
        store: The store.
        view: The view that was written.
        rows: Rows of the store.
        done_now: Rows written by this call.
        skipped: Rows that were there already.
        failed: Number of unreadable images by reason, over all rows of the store.
        seconds: Wall time of this call, model loading excluded.
        images_per_second: Rate of this call; 0 when nothing was left to do.
        interrupted: True when a signal stopped it; the same command goes on.
    """

    store: Path
    view: str
    rows: int
    done_now: int
    skipped: int
    failed: dict[str, int]
    seconds: float
    images_per_second: float
    interrupted: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "store": str(self.store)}

    def lines(self) -> list[str]:
        """Return the summary as lines for people."""
        state = "stopped on request" if self.interrupted else "complete"
        lines = [
            f"{self.store}: view {self.view} {state}: {self.rows:,} images, {self.done_now:,} new, "
            f"{self.skipped:,} cached before; {self.seconds:.1f} s, "
            f"{self.images_per_second:,.0f} img/s"
        ]
        lines += [f"  failed: {reason}: {n:,}" for reason, n in sorted(self.failed.items())]
        if not self.interrupted:
            lines.append(f"next: selectkit split {self.store}")
        return lines

    @property
    def warnings(self) -> list[str]:
        """What the user should look at."""
        lost = sum(self.failed.values())
        if not lost or lost < self.rows:
            return []
        return ["not one image could be read; nothing can be fitted on this store"]


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
    backbone = engine.load_backbone(chosen.backbone, device=chosen.device)
    summary = engine.extract(
        opened,
        Path(out),
        backbone=backbone,
        view=chosen.view,
        preprocessing=_preprocessing(backbone.preprocessing, chosen),
        dtype=chosen.dtype,
        batch_size=chosen.batch_size,
        rows_per_shard=chosen.rows_per_shard,
        progress=progress and (lambda p: progress(p.done, p.total, p.done / max(p.seconds, 1e-9))),
    )
    return ExtractSummary(
        store=Path(out),
        view=chosen.view,
        rows=summary.rows,
        done_now=summary.done_now,
        skipped=summary.skipped,
        failed=dict(summary.failed),
        seconds=summary.seconds,
        images_per_second=summary.images_per_second,
        interrupted=summary.interrupted,
    )


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
