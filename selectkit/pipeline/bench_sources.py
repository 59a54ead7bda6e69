"""Where rows to compare policies on come from: a run, a feature store, or a file."""

from collections.abc import Mapping
from pathlib import Path

from selectkit.cache import FeatureStore
from selectkit.config import BenchConfig
from selectkit.errors import ConfigError
from selectkit.location import Location, Url, local_path, location
from selectkit.pipeline.bench_of_file import of_file
from selectkit.pipeline.bench_of_run import of_run
from selectkit.pipeline.bench_of_store import of_store
from selectkit.pipeline.bench_rows import Population
from selectkit.pipeline.run import RunDirectory

_REFUSED: Mapping[str, Mapping[str, str]] = {
    "run": {
        "positive": "is for a file or a feature store; {place} knows its own positive class",
        "head": "is for a feature store; a run has one head",
        "view": "is for a feature store; a run knows the view of its head",
    },
    "store": {
        "store": "belongs to a run; {place} is a feature store itself",
        "stages": (
            "names runs that see what a first run leaves: pass that run instead of the feature "
            "store {place}"
        ),
    },
    "file": {
        "store": "belongs to a run; a file needs none",
        "stages": "belongs to a run; a file knows one head only",
        "head": "is for a feature store; a file knows one head only",
        "view": "is for a feature store; a file has no views",
    },
}
"""Settings that would have no effect, and why, by the kind of source."""


def read_population(
    source: str | Path, config: BenchConfig, store: str | Path | None
) -> tuple[Population, RunDirectory | None]:
    """Read the rows of a run, a store or a file.

    Args:
        source: Run directory, feature store, or a file *.npz.
        config: Its score, stages, head, view and positive class are used.
        store: Where the run's feature store is now, if it was moved.

    Returns:
        The rows, and the run, if it is one.

    Raises:
        ConfigError: If a setting does not fit the source.
        DataError: If the file, or the logits in the store, cannot be used.
        ArtifactError: If the run is missing or damaged.
        CacheError: If the store is missing or damaged.
        LeakageError: If the store is no longer split as it was when the head was fitted.
    """
    place = location(source)
    kind = _kind(place)
    for name, why in _REFUSED[kind].items():
        if (store if name == "store" else getattr(config, name)) is not None:
            raise ConfigError(f"--{name} {why.format(place=place)}.")
    if kind == "store":
        return of_store(FeatureStore.open(place), config), None
    path = local_path(source, "a run directory or a file")
    if kind == "file":
        return of_file(path, config), None
    run = RunDirectory.open(path)
    return of_run(run, store, config), run


def _kind(place: Location) -> str:
    if place.suffix == ".npz" and not (isinstance(place, Path) and place.is_dir()):
        return "file"
    if isinstance(place, Url):  # runs are local folders
        return "store"
    if (place / "config.toml").is_file():
        return "run"
    return "store" if place.suffix == ".zarr" or FeatureStore.exists(place) else "run"
