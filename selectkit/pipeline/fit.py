"""The verb `fit`: cached features to a head."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from selectkit.arrays import log_softmax
from selectkit.cache import FeatureStore
from selectkit.config import FitConfig, RunConfig
from selectkit.errors import ConfigError, DataError, SelectkitError
from selectkit.heads import Epoch, Head
from selectkit.location import local_path
from selectkit.pipeline.conformal import head_of_run, require_tunable
from selectkit.pipeline.extract import settled
from selectkit.pipeline.fine_tuning import FineTuning
from selectkit.pipeline.fitted import FittedHead, view_hash
from selectkit.pipeline.folds import OutOfFold, cross_fit, require_foldable
from selectkit.pipeline.inputs import Inputs
from selectkit.pipeline.log import log_event
from selectkit.pipeline.logits import forget_logits, gate_of, logits_of
from selectkit.pipeline.noticed import noticed
from selectkit.pipeline.recipes import (
    epochs_judged_by,
    is_conformal,
    require_sensible,
)
from selectkit.pipeline.run import RunDirectory
from selectkit.pipeline.training import OnEpoch, criterion_for, fit_heads, starting_head
from selectkit.pipeline.unfinished import Unfinished

FIRST = "start"
"""Name of the training of a head that is fine-tuned afterwards."""

Watch = Callable[[str, Epoch], None]
"""Called with the name of a training ("fit", "fold-2", ...) and its finished epoch."""


@dataclass(frozen=True)
class FitSummary:
    """What a fit did.

    Attributes:
        run: The run directory.
        head: Kind of the head.
        classes: Label names in the order of the logits.
        positive: The positive label, None when there is none.
        n_train: Labelled rows of train.
        n_select: Labelled rows of val_select.
        accuracy: Share of right predictions on val_select, on which the head was selected.
        nll: Mean negative log-likelihood on val_select, nats.
        seconds: Wall time.
        warnings: What the user should look at.
        out_of_fold: What cross-fitting found, when it was asked for.
        fine_tuning: What fine-tuning through the conformal step changed, when it was asked for.
    """

    run: Path
    head: str
    classes: tuple[str, ...]
    positive: str | None
    n_train: int
    n_select: int
    accuracy: float
    nll: float
    seconds: float
    warnings: tuple[str, ...]
    out_of_fold: OutOfFold | None = None
    fine_tuning: FineTuning | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        folds = None if self.out_of_fold is None else self.out_of_fold.to_dict()
        tuned = None if self.fine_tuning is None else self.fine_tuning.to_dict()
        return {
            **vars(self), "run": str(self.run), "out_of_fold": folds, "fine_tuning": tuned
        }  # fmt: skip

    def lines(self) -> list[str]:
        """Return the summary as lines for people."""
        lines = [
            f"{self.run}: {self.head} head, {len(self.classes)} classes"
            + (f", positive = {self.positive}" if self.positive else "")
            + f", {self.n_train:,} images in train, {self.n_select:,} in val_select; "
            f"{self.seconds:.2f} s",
            f"on val_select (chosen on it, so flattered): accuracy {self.accuracy:.3f}, "
            f"NLL {self.nll:.3f}",
        ]
        if self.out_of_fold is not None:
            o = self.out_of_fold
            lines.append(
                f"out of {o.folds} folds, on train: accuracy {o.accuracy:.3f}, NLL {o.nll:.3f}; "
                f"logits {o.logits} in the store"
            )
        if self.fine_tuning is not None:
            lines += self.fine_tuning.lines()
        return [*lines, f"next: selectkit calibrate {self.run} --target error=0.05"]


def fit(
    store: str | Path,
    *,
    out: str | Path,
    config: FitConfig | None = None,
    watch: Watch | None = None,
    **settings: Any,
) -> FitSummary:
    """Fit a head on `train`, choose it on `val_select`, write a run directory.

    An interrupted fit goes on where it stopped when it is called again with the same arguments, and
    ends with the same head, bit for bit on the CPU.

    Args:
        store: Feature store.
        out: Run directory to make; an earlier run there is replaced.
        config: Settings; the defaults when None.
        watch: Called after every epoch of a trained head.
        **settings: Fields of `FitConfig`, over `config`.

    Returns:
        What was fitted.

    Raises:
        ConfigError: If a setting is unknown or unusable.
        DataError: If the labels cannot be fitted on.
        CacheError: If the store is missing, damaged, or lacks the view.
        MissingExtraError: If TensorBoard is asked for and not installed.
    """
    chosen = settled(FitConfig, config, settings)
    require_sensible(chosen)
    place = local_path(out, "a run directory")
    RunDirectory.require_usable(place)
    require_other_run(place, chosen)
    start = perf_counter()
    inputs = Inputs.of(FeatureStore.open(store), chosen)
    criterion_for(inputs, chosen.select_by)
    if is_conformal(chosen):
        require_tunable(inputs, chosen)
    if chosen.folds is not None:
        require_foldable(inputs, chosen.folds)
    with Unfinished(place) as unfinished, watched(place, chosen, watch) as told:
        if is_conformal(chosen):
            starting_head(inputs, chosen, unfinished, _named(told, lambda _: FIRST))
        (head,) = fit_heads(inputs, [chosen], unfinished, _named(told, lambda _: "fit"))
        return finished(place, chosen, inputs, head, unfinished, told, start)


def finished(
    place: Path,
    config: FitConfig,
    inputs: Inputs,
    head: Head | DataError,
    unfinished: Unfinished,
    told: Watch,
    start: float,
) -> FitSummary:
    """Write the run directory of a head, and what the head says to the store.

    Args:
        place: The run directory.
        config: The settings of the head.
        inputs: What it was fitted on.
        head: The head, or why there is none.
        unfinished: Where interrupted work lies.
        told: Is told of the epochs of folds.
        start: When the fit began, of `perf_counter`.

    Returns:
        What was fitted.

    Raises:
        DataError: If there is no head.
    """
    if isinstance(head, DataError):
        raise head
    tuned, images = None, inputs.images()
    if is_conformal(config):
        tuned = FineTuning.of(inputs, config, starting_head(inputs, config, unfinished), head)
    if config.init is not None:
        images = np.union1d(images, head_of_run(inputs, config).fitted_images)
    settings = RunConfig(store=str(inputs.store.path.resolve()), fit=config)
    earlier = _earlier_head(place, settings.store)
    run = RunDirectory.create(place, settings)
    fitted = run.save_head(head, about(inputs), images)
    out_of_fold = None
    if config.folds is not None:
        named = _named(told, lambda fold: f"fold-{fold + 1}")
        out_of_fold = cross_fit(inputs, config, fitted, unfinished, named)
    gate_of(fitted, inputs.store)
    if earlier is not None and earlier.name != fitted.name:
        forget_logits(earlier, inputs.store)
    seconds = perf_counter() - start
    summary = _summary(run.path, config, inputs, fitted, out_of_fold, tuned, seconds)
    run.log("fit", **summary.to_dict())
    return summary


def _earlier_head(place: Path, store: str | None) -> FittedHead | None:
    """The head that the run directory has so far, if it was fitted on the same store."""
    try:
        run = RunDirectory.open(place)
        return run.head if run.config.store == store else None
    except SelectkitError:
        return None


def about(inputs: Inputs) -> dict[str, Any]:
    """Return what head.json says of the head's inputs and outputs."""
    return {
        "classes": list(inputs.classes),
        "positive": inputs.positive_label,
        "view": inputs.view,
        "view_hash": view_hash(inputs.store, inputs.view),
        "feature": inputs.feature,
        "splits": inputs.store.splits.to_dict(),
        "train_split": inputs.train.fingerprint,
        "select_split": inputs.select.fingerprint,
    }


def require_other_run(place: Path, config: FitConfig) -> None:
    """Refuse to replace the run whose head is fine-tuned.

    Args:
        place: The run directory to make.
        config: The settings.

    Raises:
        ConfigError: If `init` is the same folder.
    """
    if config.init is not None and Path(config.init).resolve() == place.resolve():
        raise ConfigError(
            f"--out {place} is the run that --init names; give the fine-tuned head another folder."
        )


@contextmanager
def watched(place: Path, config: FitConfig, watch: Watch | None) -> Iterator[Watch]:
    """Log every epoch to the run directory, and to TensorBoard if that was asked for.

    Args:
        place: The run directory, which training makes.
        config: The settings.
        watch: Is told too.

    Yields:
        What to tell.
    """
    with _board(place, config) as board:

        def tell(name: str, epoch: Epoch) -> None:
            judged_by = config.select_by if name == FIRST else epochs_judged_by(config)
            log_event(place, "epoch", training=name, select_by=judged_by, **asdict(epoch))
            if board is not None:
                board.add(name, epoch)
            if watch is not None:
                watch(name, epoch)

        yield tell


def _board(place: Path, config: FitConfig) -> Any:
    if not config.tensorboard:
        return nullcontext()
    from selectkit.heads.training.tensorboard import TensorBoard

    return TensorBoard(place / "tensorboard")


def _named(told: Watch, name: Callable[[int], str]) -> OnEpoch:
    return lambda number, epoch: told(name(number), epoch)


def _summary(
    run: Path,
    config: FitConfig,
    inputs: Inputs,
    fitted: FittedHead,
    out_of_fold: OutOfFold | None,
    tuned: FineTuning | None,
    seconds: float,
) -> FitSummary:
    y = inputs.select.y
    z = logits_of(fitted, inputs.store)[inputs.select.rows]
    more = () if out_of_fold is None else out_of_fold.warnings
    more += () if tuned is None else tuned.warnings()
    return FitSummary(
        run=run,
        head=config.head,
        classes=inputs.classes,
        positive=inputs.positive_label,
        n_train=len(inputs.train.y),
        n_select=len(y),
        accuracy=float((z.argmax(axis=1) == y).mean()),
        nll=float(-log_softmax(z)[np.arange(len(z)), y].mean()),
        seconds=seconds,
        warnings=(*inputs.warnings(), *noticed(config, inputs, fitted), *more),
        out_of_fold=out_of_fold,
        fine_tuning=tuned,
    )
