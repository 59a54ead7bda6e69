"""The verb `extract`: images to a feature store."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

from selectkit.config import ExtractConfig, build
from selectkit.errors import ConfigError
from selectkit.extract import Extraction, ExtractionSummary, Progress
from selectkit.location import Location, location
from selectkit.threads import spinning

if TYPE_CHECKING:
    from selectkit.extract.backbones import TokenBackbone
    from selectkit.extract.preprocess import Preprocessing
    from selectkit.extract.setup import Settings
    from selectkit.extract.sources import Source

T = TypeVar("T")
Ticker = Callable[[int, int, float], None]


@dataclass(frozen=True)
class ExtractSummary:
    """What an extraction did.

    Attributes:
        store: The store.
        view: The view that was written.
        work: Rows, failures, time, as the engine counted them.
        compute: Arithmetic of the forward pass, "float32" or "bfloat16".
        utilisation: Share of the device's measured matrix arithmetic that the run used; None where
            that says nothing, on the CPU.
        ignored: Number of files of a folder that are no images, by their suffix.
    """

    store: Location
    view: str
    work: ExtractionSummary
    compute: str
    utilisation: float | None = None
    ignored: dict[str, int] = field(default_factory=dict)

    @property
    def interrupted(self) -> bool:
        """True when a signal stopped it; the same command goes on."""
        return self.work.interrupted

    @property
    def _lost(self) -> int:
        return sum(self.work.failed.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "store": str(self.store),
            "view": self.view,
            **asdict(self.work),
            "timings": self.work.timings.to_dict(),
            "ignored": self.ignored,
            "compute": self.compute,
            "utilisation": self.utilisation,
            "warnings": self.warnings,
        }

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
            *([self._speed] if w.timings.images else []),
            *(f"  {what}: {n:,}" for what, n in asdict(w.changes).items() if n),
            *(f"  ignored: {suffix}: {n:,}" for suffix, n in self.ignored.items()),
            *(f"  failed: {reason}: {n:,}" for reason, n in sorted(w.failed.items())),
        ]
        if w.interrupted:
            return [*lines, "run the same command again to go on"]
        usable = held == w.rows > self._lost
        return [*lines, f"next: selectkit split {self.store}"] if usable else lines

    @property
    def _speed(self) -> str:
        timings = self.work.timings
        shares = sorted(timings.shares.items(), key=lambda item: -item[1])
        line = f"  limited by {timings.limit} in {self.compute}: "
        line += ", ".join(f"{name} {share:.0%}" for name, share in shares) + " of the time"
        if self.utilisation is None:
            return line
        return f"{line}; {self.utilisation:.0%} of the device's matrix arithmetic"

    def _state(self, held: int) -> str:
        rows = f"{self.work.rows:,}"
        return f"complete: {rows}" if held == self.work.rows else f"has {held:,} of {rows}"

    @property
    def warnings(self) -> list[str]:
        """What the user should look at."""
        found = []
        if self._lost and self._lost == self.work.rows:
            found.append("not one image could be used; nothing can be fitted on this store")
        if (why := spinning()) is not None:
            found.append(
                f"idle threads spin ({why}), and with a busy neighbour everything takes many times "
                "as long: set OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0 before Python starts"
            )
        return found


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
        source: Folder per class, CSV or Parquet manifest (paths or URLs), or "digits"
            (scikit-learn's images).
        out: Feature store to make, to complete, or to go on with; a path or a URL.
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
        MissingExtraError: If an engine is asked for that is not installed.
        WorkerError: If workers of a cluster end before their work does.
    """
    from selectkit.extract import begun_with
    from selectkit.extract.engine import run

    chosen = settled(ExtractConfig, config, settings)
    arguments = str(source), str(location(out)), chosen

    def tell(p: Progress) -> None:
        if progress is not None:
            progress(p.done, p.total, p.done / max(p.seconds, 1e-9))

    if chosen.engine == "ray":
        from selectkit.extract.ray_engine import extract_on_ray

        summary = extract_on_ray(
            partial(_part, *arguments),
            actors=chosen.actors,
            address=chosen.ray_address,
            device=chosen.device,
            shard_range=chosen.shard_range,
            progress=tell,
        )
        compute, utilisation = begun_with(out, chosen.view).get("dtype", ""), None
        ignored: dict[str, int] = {}
    else:
        opened, backbone, how = _opened(*arguments)
        part = Extraction(opened, arguments[1], backbone, how)
        summary = run(part, shard_range=chosen.shard_range, progress=tell)
        compute, utilisation = backbone.dtype, _utilisation(backbone, summary)
        ignored = getattr(opened, "ignored", {})
    return ExtractSummary(
        store=location(out),
        view=chosen.view,
        work=summary,
        compute=compute,
        utilisation=utilisation,
        ignored=ignored,
    )


def _part(source: str, out: str, chosen: ExtractConfig) -> Extraction:
    """One process's part, from arguments; this may be called on another machine."""
    opened, backbone, how = _opened(source, out, chosen)
    return Extraction(opened, out, backbone, how)


def _opened(
    source: str, out: str, chosen: ExtractConfig
) -> "tuple[Source, TokenBackbone, Settings]":
    from selectkit import extract as engine
    from selectkit.extract.setup import Settings

    opened = engine.open_source(
        source, path=chosen.path, label=chosen.label, group=chosen.group, id=chosen.id
    )
    engine.require_readable(opened)
    backbone = _backbone(chosen, out)
    how = Settings(
        view=chosen.view,
        dtype=chosen.dtype,
        batch_size=chosen.batch_size,
        rows_per_shard=chosen.rows_per_shard,
        workers=chosen.workers,
        rescan=chosen.rescan,
        jpeg_decoder=chosen.jpeg_decoder,
    )
    return opened, backbone, how


def settled(cls: type[T], config: T | None, settings: dict[str, Any]) -> T:
    """Return `config` (or the defaults) with `settings` over it, checked."""
    known = asdict(config) if config is not None else {}  # type: ignore[call-overload]
    return build(cls, known | settings)


def _backbone(config: ExtractConfig, store: str | Path) -> "TokenBackbone":
    """Load what is asked for, to compute as the view was begun if there is one."""
    from selectkit import extract as engine

    begun = engine.begun_with(store, config.view)
    compute: Any = config.compute
    if compute == "auto":
        compute = begun.get("dtype", compute)
    backbone = engine.load_backbone(
        config.backbone,
        device=config.device,
        dtype=compute,
        last=config.last,
        flip=config.flip,
        compile=config.compile or begun.get("compiled", False),
    )
    plan = _preprocessing(backbone.preprocessing, config)
    if config.crops == 5:
        return backbone.five_crops(plan)
    return replace(backbone, preprocessing=plan)


def _preprocessing(default: "Preprocessing", config: ExtractConfig) -> "Preprocessing":
    from selectkit.extract.preprocess import Mode, read_preprocessing

    asked = config.preprocess
    if asked.lower().endswith((".toml", ".json")):
        default = read_preprocessing(Path(asked).expanduser(), default)
    elif asked in get_args(Mode):
        default = replace(default, mode=cast(Mode, asked))
    elif asked != "auto":
        raise ConfigError(
            f"preprocess = {asked!r} is none of auto, meta-eval and squash, and no .toml or .json "
            "file."
        )
    return default if config.size is None else replace(default, size=config.size)


def _utilisation(backbone: "TokenBackbone", summary: ExtractionSummary) -> float | None:
    timings = summary.timings
    if not backbone.lag or not timings.computed:
        return None
    from selectkit.extract.backbones.capacity import utilisation

    rate = timings.computed / timings.seconds
    return utilisation(backbone, backbone.preprocessing.size, rate)
