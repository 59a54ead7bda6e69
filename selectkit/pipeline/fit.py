"""The verb `fit`: cached features to a head."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.arrays import log_softmax
from selectkit.cache import Features, FeatureStore
from selectkit.config import FitConfig, RunConfig
from selectkit.errors import ConfigError, DataError
from selectkit.heads import Epoch, Head, LinearHead, MlpHead, Recipe
from selectkit.location import local_path
from selectkit.pipeline.criteria import criterion
from selectkit.pipeline.extract import settled
from selectkit.pipeline.run import RunDirectory, image_keys, logits_of, recode


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

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**vars(self), "run": str(self.run)}

    def lines(self) -> list[str]:
        """Return the summary as lines for people."""
        return [
            f"{self.run}: {self.head} head, {len(self.classes)} classes"
            + (f", positive = {self.positive}" if self.positive else "")
            + f", {self.n_train:,} images in train, {self.n_select:,} in val_select; "
            f"{self.seconds:.2f} s",
            f"on val_select (chosen on it, so flattered): accuracy {self.accuracy:.3f}, "
            f"NLL {self.nll:.3f}",
            f"next: selectkit calibrate {self.run} --target error=0.05",
        ]


def fit(
    store: str | Path,
    *,
    out: str | Path,
    config: FitConfig | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    **settings: Any,
) -> FitSummary:
    """Fit a head on `train`, choose it on `val_select`, write a run directory.

    Args:
        store: Feature store.
        out: Run directory to make; an earlier run there is replaced.
        config: Settings; the defaults when None.
        on_epoch: mlp: called after every epoch.
        **settings: Fields of `FitConfig`, over `config`.

    Returns:
        What was fitted.

    Raises:
        ConfigError: If a setting is unknown or unusable.
        DataError: If the labels cannot be fitted on.
        CacheError: If the store is missing, damaged, or lacks the view.
    """
    chosen = settled(FitConfig, config, settings)
    _refuse_ignored(chosen)
    place = local_path(out, "a run directory")
    RunDirectory.require_usable(place)
    start = perf_counter()
    opened = FeatureStore.open(store)
    train = _fit_rows(opened, chosen, "train")
    select = _fit_rows(opened, chosen, "val_select")
    classes = train.classes
    positive = positive_index(classes, chosen.positive)
    head = _fit_head(chosen, train, recode(select, classes), positive, on_epoch)
    run = RunDirectory.create(place, RunConfig(store=str(opened.path.resolve()), fit=chosen))
    fitted = run.save_head(
        head,
        {
            "classes": list(classes),
            "positive": None if positive is None else classes[positive],
            "view": chosen.view,
            "view_hash": opened.view(chosen.view).hash,
            "feature": chosen.feature,
            "splits": opened.splits.to_dict(),
            "train_split": train.fingerprint,
            "select_split": select.fingerprint,
        },
        _images(opened, np.concatenate([train.rows, select.rows])),
    )
    z = logits_of(fitted, opened)[select.rows]
    summary = FitSummary(
        run=run.path,
        head=chosen.head,
        classes=classes,
        positive=None if positive is None else classes[positive],
        n_train=len(train.y),
        n_select=len(select.y),
        accuracy=float((z.argmax(axis=1) == select.y).mean()),
        nll=float(-log_softmax(z)[np.arange(len(z)), select.y].mean()),
        seconds=perf_counter() - start,
        warnings=(*_incomplete(opened, chosen.view), *_warnings(train, select)),
    )
    run.log("fit", **summary.to_dict())
    return summary


def _refuse_ignored(config: FitConfig) -> None:
    """Refuse settings of the MLP with a linear head, which would not use them."""
    default = FitConfig()
    mlp = ("hidden", "epochs", "learning_rate", "weight_decay", "batch_size", "class_weights",
           "select_by")  # fmt: skip
    unused = [n for n in mlp if getattr(config, n) != getattr(default, n)]
    if config.head == "linear" and unused:
        raise ConfigError(
            f"{', '.join(unused)} are settings of the mlp head; add --head mlp or leave them out."
        )


def _images(store: FeatureStore, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    index = store.index()
    return image_keys(index.content_hash[np.isin(index.row, rows)])


def positive_index(classes: tuple[str, ...], label: str | None) -> int | None:
    """Return the index of the positive class.

    Args:
        classes: Label names.
        label: The asked label, or None for the default: the last of two classes, none of more.

    Returns:
        The index, or None when there is no positive class.

    Raises:
        DataError: If no class has that label.
    """
    if label is None:
        return 1 if len(classes) == 2 else None
    if label not in classes:
        raise DataError(f"positive label {label!r} is none of the labels {list(classes)}.")
    return classes.index(label)


def _fit_rows(store: FeatureStore, config: FitConfig, split: str) -> Features:
    rows = store.read(config.view, split, feature=config.feature)
    if len(rows.classes) < 2:
        raise DataError(
            f"{store.path} has {len(rows.classes)} distinct labels {list(rows.classes)}; "
            "a classifier needs at least 2."
        )
    if len(np.unique(rows.y)) < 2 and (split == "train" or not len(rows.y)):
        raise DataError(
            f"split {split} of {store.path} has {len(rows.y)} labelled images of "
            f"{len(np.unique(rows.y))} class; fitting needs at least 2 classes. "
            f"`selectkit split {store.path}` shows the sizes."
        )
    return rows


def _fit_head(
    config: FitConfig,
    train: Features,
    select: Features,
    positive: int | None,
    on_epoch: Callable[[Epoch], None] | None,
) -> Head:
    held_out = (select.x, select.y)
    by_fnr = config.select_by.startswith("coverage@fnr")
    if by_fnr and positive is not None and not (select.y == positive).any():
        raise DataError(
            f"select_by = {config.select_by!r} needs positives in val_select, and there are none "
            f"of {train.classes[positive]!r}. Label more, or use --select-by nll."
        )
    if config.head == "linear":
        return LinearHead.fit(train.x, train.y, select=held_out, n_classes=len(train.classes))
    return MlpHead.fit(
        train.x,
        train.y,
        select=held_out,
        n_classes=len(train.classes),
        recipe=Recipe(
            hidden=config.hidden,
            epochs=config.epochs,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            batch_size=config.batch_size,
            class_weights=config.class_weights,
            seed=config.seed,
        ),
        criterion=criterion(config.select_by, positive),
        on_epoch=on_epoch,
    )


def _incomplete(store: FeatureStore, view: str) -> tuple[str, ...]:
    held = sum(store.committed(view).values())
    if held == store.rows:
        return ()
    return (f"view {view} holds {held:,} of {store.rows:,} rows; run extract again to complete it",)


def _warnings(train: Features, select: Features) -> tuple[str, ...]:
    lines = []
    for rows in (train, select):
        missing = [c for k, c in enumerate(rows.classes) if not (rows.y == k).any()]
        if missing:
            lines.append(f"{rows.split} has no image of: {', '.join(missing)}")
    return tuple(lines)
