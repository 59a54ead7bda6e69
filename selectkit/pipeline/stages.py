"""Several runs as stages of a cascade: the rows that all of them have, and what a head costs."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os.path import relpath
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Floats
from selectkit.artifact import content_hash
from selectkit.cache import Features, FeatureStore
from selectkit.calibrate import Calibrator
from selectkit.errors import ArtifactError, ConfigError, LeakageError
from selectkit.pipeline.run import RunDirectory
from selectkit.policies import Outputs

_TIMED_ROWS = 1024
_REPEATS = 5


@dataclass(frozen=True)
class StageRun:
    """One run of a cascade.

    Attributes:
        run: The run directory.
        store: Its store.
        name: What people call the stage.
    """

    run: RunDirectory
    store: FeatureStore
    name: str


def stage_runs(runs: Sequence[Path], store: str | Path | None = None) -> tuple[StageRun, ...]:
    """Open runs that may be stages of one cascade.

    Args:
        runs: Run directories, in the order in which they see a row.
        store: Where the store of all runs is now, if it was moved.

    Returns:
        The stages.

    Raises:
        ConfigError: If there are fewer than two, one twice, or their classes differ.
        ArtifactError: If a run is missing or damaged.
        CacheError: If a store is missing.
        LeakageError: If the stores are not split alike, or a head has seen rows that would
            certify it.
    """
    if len(runs) < 2:
        raise ConfigError(
            "a cascade needs at least two runs: the first, and --stage for each more."
        )
    opened = [RunDirectory.open(path) for path in runs]
    places = [run.path.resolve() for run in opened]
    if len(set(places)) < len(places):
        raise ConfigError("a run can be one stage of a cascade only once.")
    names = [place.name for place in places]
    unique = [n if names.count(n) == 1 else f"{n} ({i + 1})" for i, n in enumerate(names)]
    stages = tuple(
        StageRun(run, run.store(store), name) for run, name in zip(opened, unique, strict=True)
    )
    first = stages[0]
    for stage in stages[1:]:
        if set(stage.run.head.classes) != set(first.run.head.classes):
            raise ConfigError(
                f"{stage.run.path} knows the classes {list(stage.run.head.classes)}, "
                f"{first.run.path} {list(first.run.head.classes)}: stages must know the same."
            )
        if stage.store.splits.to_dict() != first.store.splits.to_dict():
            raise LeakageError(
                f"{stage.store.path} is split by {stage.store.splits.to_dict()}, "
                f"{first.store.path} by {first.store.splits.to_dict()}: what certifies one stage "
                "may have trained the other. Split both alike, and fit again."
            )
    return stages


def common_outputs(
    stages: Sequence[StageRun], split: str, calibrators: Sequence[Calibrator]
) -> tuple[Features, list[Outputs]]:
    """Read the rows of a split that all stages have.

    Args:
        stages: The stages.
        split: Name of the split.
        calibrators: One per stage.

    Returns:
        The rows as the first stage has them, and what each stage says about them, with classes in
        the order of the first.

    Raises:
        DataError: If a split has no labelled row.
        ConfigError: If the stages have no row in common.
        LeakageError: If a row has another label or group in another store.
    """
    read = [s.run.outputs(s.store, split, c) for s, c in zip(stages, calibrators, strict=True)]
    rows = read[0][0]
    ids = [{str(name): i for i, name in enumerate(r.ids)} for r, _ in read]
    shared = [str(name) for name in rows.ids if all(str(name) in known for known in ids[1:])]
    if not shared:
        raise ConfigError(f"the stages have no image of {split} in common.")
    places = [np.array([known[name] for name in shared], dtype=np.int64) for known in ids]
    common = _take(rows, places[0])
    outputs = []
    for stage, (found, said), place in zip(stages, read, places, strict=True):
        here = _take(found, place)
        names = np.array(stage.run.head.classes, dtype=object)
        same = (names[here.y] == np.array(common.classes, dtype=object)[common.y]) & (
            here.groups == common.groups
        )
        if not same.all():
            wrong = shared[int(np.flatnonzero(~same)[0])]
            raise LeakageError(
                f"{wrong!r} has another label or group in {stage.store.path} than in "
                f"{stages[0].store.path}. Use stages of one store, or extract again."
            )
        outputs.append(_in_order(said.take(place), stage.run.head.classes, common.classes))
    if any(len(found.ids) != len(shared) for found, _ in read):
        fingerprint = content_hash([found.fingerprint for found, _ in read])
        common = replace(common, fingerprint=fingerprint)
    return common, outputs


def head_seconds(stage: StageRun, features: Floats | None) -> float:
    """Measure what a head costs.

    Args:
        stage: The stage.
        features: Shape (M, D), its inputs; what `common_outputs` returns has them.

    Returns:
        Seconds for one row, in blocks of up to 1,024 rows; the median of five runs.

    Raises:
        ConfigError: If there are no features.
    """
    if features is None:
        raise ConfigError(f"{stage.name} cannot be timed without the features that it reads.")
    x = np.asarray(features[:_TIMED_ROWS])
    head = stage.run.head.head
    head.logits(x)
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        head.logits(x)
        seconds.append(time.perf_counter() - start)
    return median(seconds) / len(x)


def stage_costs(
    stages: Sequence[StageRun], views: Mapping[str, float], heads: Sequence[float]
) -> tuple[float, ...]:
    """Return what each stage costs: views that no earlier stage has computed, and its head.

    Args:
        stages: The stages.
        views: Seconds to extract one image, by view.
        heads: Seconds of each head for one row.

    Returns:
        Seconds for one row that reaches the stage.

    Raises:
        ConfigError: If some views have a cost and others have none, or one is no view of theirs.
    """
    read = [s.run.head.view.split("+") for s in stages]
    known = {view for names in read for view in names}
    if views and set(views) != known:
        raise ConfigError(
            f"seconds are given for the views {sorted(views)}, the stages read {sorted(known)}: "
            "give them for each."
        )
    done: set[str] = set()
    costs = []
    for names, seconds in zip(read, heads, strict=True):
        costs.append(sum(views.get(v, 0.0) for v in set(names) - done) + seconds)
        done |= set(names)
    return tuple(costs)


def reference(stage: StageRun, first: Path) -> str:
    """Return where a stage's run is, seen from the first run."""
    return Path(relpath(stage.run.path.resolve(), first.resolve())).as_posix()


def opened_stages(
    run: RunDirectory, document: Mapping[str, Any], store: str | Path | None = None
) -> tuple[tuple[StageRun, ...], tuple[Calibrator, ...]]:
    """Open the stages that a `cascade.json` names.

    Args:
        run: The run that holds it.
        document: Its content.
        store: Where the store of all runs is now, if it was moved.

    Returns:
        The stages, and their calibrators.

    Raises:
        ArtifactError: If a run is missing, or its head or calibrator is not the one that the
            cascade was certified with.
    """
    paths = [run.path / entry["run"] for entry in document["stages"]]
    stages = stage_runs(paths, store)
    calibrators = []
    for stage, entry in zip(stages, document["stages"], strict=True):
        calibrator, fitted = stage.run.calibrator()
        if (stage.run.head.hash, fitted) != (entry["head"], entry["calibrator"]):
            raise ArtifactError(
                f"{stage.run.path} has another head or calibrator than the stage {entry['name']!r} "
                f"of the cascade in {run.path}. Calibrate the cascade again."
            )
        calibrators.append(calibrator)
    return stages, tuple(calibrators)


def _take(rows: Features, place: npt.NDArray[np.int64]) -> Features:
    return replace(
        rows, rows=rows.rows[place], ids=rows.ids[place], y=rows.y[place],
        groups=rows.groups[place], x=rows.x[place],
    )  # fmt: skip


def _in_order(outputs: Outputs, has: tuple[str, ...], wanted: tuple[str, ...]) -> Outputs:
    """Put the columns of a stage in the order of another's classes."""
    if has == wanted:
        return outputs
    column = [has.index(name) for name in wanted]
    return Outputs(
        outputs.logits[:, column], outputs.probabilities[:, column], outputs.features, outputs.gate
    )
