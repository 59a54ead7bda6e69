"""Fitting trained heads: check the data once, train all configurations over them, assemble heads.

Configurations whose recipes differ only in numbers (seeds, learning rates, weight decays, numeric
settings of one loss, patience, clipping) are trained together over one pass of the batches; others
follow one another over the same standardised rows. Alone or together a configuration gets the same
weights, up to the rounding of matrix products (1e-5 of the outputs in float32).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike
from selectkit.artifact import content_hash
from selectkit.errors import ConfigError, DataError
from selectkit.heads.network import Network
from selectkit.heads.prepared import TrainingData, arrays_hash
from selectkit.heads.rows import Float64s
from selectkit.heads.starting import hidden_of, weights_under
from selectkit.heads.trained import Assembly, Criterion, TrainedHead, negative_log_likelihood
from selectkit.heads.training.batches import WORKING_SET, HeldOut, batches, steps_per_epoch
from selectkit.heads.training.conformal import ConformalRisk, ConformalSets
from selectkit.heads.training.memory import require_room
from selectkit.heads.training.recipe import Epoch, Recipe
from selectkit.heads.training.source import FeatureRows

if TYPE_CHECKING:
    from selectkit.heads.training.loop import Judge, OnEpoch, Trained
    from selectkit.heads.training.run import Problem

H = TypeVar("H", bound=TrainedHead)


def fit_many(
    head: type[H],
    features: FeatureRows,
    labels: ArrayLike,
    *,
    select: tuple[FeatureRows, ArrayLike],
    n_classes: int,
    recipes: Sequence[Recipe],
    criterion: Criterion = negative_log_likelihood,
    on_epoch: "OnEpoch | None" = None,
    checkpoint: Path | None = None,
    checkpoint_every: float = 0.0,
    device: str = "cpu",
    working_set: int = WORKING_SET,
    starts: Sequence[Network] | None = None,
) -> list[H | DataError]:
    """Train one head per recipe.

    After each epoch the averaged weights of each configuration are judged on `select`; its best are
    kept (of equal ones those of the lowest negative log-likelihood), and it stops after `patience`
    epochs without better ones. torch's global random state
    is neither read nor changed. Weights, order of rows and all else follow from the arguments: on
    one machine and the CPU, equal arguments give equal heads, interrupted or not.

    A class without training rows keeps a logit of -50, which no other logit of the row can be far
    below: the largest is at least zero. Rows of `select` in such a class are left out.

    Args:
        head: Class of the heads, for instance `ThreeHead`.
        features: Shape (N, D), finite: an array, a memory-mapped array, or anything with shape,
            dtype and rows by slice and by number (`LazyRows`, a stored array).
        labels: Shape (N,), codes in [0, K); -1 (unlabelled) rows are left out.
        select: Features and labels for early stopping.
        n_classes: K; at least 2 of them must occur in `labels`.
        recipes: One per head.
        criterion: What early stopping and the choice of the epoch go by.
        on_epoch: Called with (number of the recipe, finished `Epoch`).
        checkpoint: File to write after epochs. If it exists, training goes on from it; it is
            removed at the end.
        checkpoint_every: Least seconds between two checkpoints; 0 writes one after every epoch.
        device: "cpu" or a CUDA device.
        working_set: Bytes of features to keep in memory; larger features are streamed.
        starts: For each recipe a network of the same D, hidden units and K to go on from, instead
            of drawing weights. It is judged like an epoch, and kept if no epoch is better.

    Returns:
        For each recipe its head, or the `DataError` that says why there is none: a loss that
        stopped being finite, or a criterion that never was.

    Raises:
        DataError: If an array is wrong, no row is labelled, or only one class occurs.
        ConfigError: If a recipe is not one for this head, or needs more memory than there is, or
            the device cannot be used.
        ArtifactError: If the checkpoint is damaged or belongs to another fit.
    """
    for recipe in recipes:
        _check_recipe(head, recipe)
    _check_device(device)
    data = TrainingData.of(features, labels, select, n_classes)
    _check_starts(recipes, starts, data)
    groups, outputs = _groups(recipes), head.outputs_for(len(data.present))
    for members in groups:
        shape = data.train.n_features, outputs, data.train.n_rows
        require_room([recipes[i] for i in members], *shape, device)
    heads: dict[int, H | DataError] = {}
    files = []
    kept: dict[Any, Any] = {}
    for group, members in enumerate(groups):
        path = None if checkpoint is None else _part(checkpoint, group)
        files.append(path)
        outcomes = _train_group(
            data, head, [recipes[i] for i in members], criterion,
            on_epoch=None if on_epoch is None else _renumbered(on_epoch, members),
            checkpoint=path, checkpoint_every=checkpoint_every, device=device,
            working_set=working_set, kept=kept,
            starts=None if starts is None else [starts[i] for i in members],
        )  # fmt: skip
        for i, outcome in zip(members, outcomes, strict=True):
            heads[i] = _assembled(head, data, recipes[i], outcome)
    for path in files:
        if path is not None:
            path.unlink(missing_ok=True)
    return [heads[i] for i in range(len(recipes))]


def only(fitted: list[H | DataError]) -> H:
    """Return the head of a fit of one recipe, or raise why there is none."""
    (head,) = fitted
    if isinstance(head, DataError):
        raise head
    return head


def unnumbered(on_epoch: Callable[[Epoch], None] | None) -> "OnEpoch | None":
    """Return a callback of `fit_many` that drops the number of the recipe."""
    return None if on_epoch is None else lambda _, epoch: on_epoch(epoch)


def _train_group(
    data: TrainingData,
    head: type[TrainedHead],
    recipes: list[Recipe],
    criterion: Criterion,
    *,
    on_epoch: "OnEpoch | None",
    checkpoint: Path | None,
    checkpoint_every: float,
    device: str,
    working_set: int,
    kept: dict[Any, Any],
    starts: Sequence[Network] | None,
) -> "list[Trained | DataError]":
    from selectkit.heads.training.loop import train

    recipes = [_for_rows(recipe, data) for recipe in recipes]
    begun = None
    if starts is not None:
        begun = [weights_under(network, data.scaling, data.present) for network in starts]

    def judged_by(criterion: Criterion) -> "Judge":
        def judge(_: int, outputs: npt.NDArray[np.float32]) -> float:
            logits, *gate = head.judged(outputs.astype(np.float64), data.present, data.n_classes)
            return criterion(logits, data.select_labels, *gate)

        return judge

    likelihood = negative_log_likelihood
    return train(
        _problem(data, head, recipes[0], device, working_set, kept), recipes,
        judged_by(criterion), tie=None if criterion is likelihood else judged_by(likelihood),
        on_epoch=on_epoch, checkpoint_path=checkpoint, checkpoint_every=checkpoint_every,
        fingerprint=_fingerprint(data, head, recipes, device, working_set, begun), starts=begun,
    )  # fmt: skip


def _problem(
    data: TrainingData,
    head: type[TrainedHead],
    first: Recipe,
    device: str,
    working_set: int,
    kept: dict[Any, Any],
) -> "Problem":
    """The batches and shapes that all recipes of a group share with the first."""
    import torch

    from selectkit.heads.training.network import training_dtype
    from selectkit.heads.training.run import Problem

    steps = steps_per_epoch(data.train.n_rows, first.batch_size)
    if first.sharpness is not None and steps < 2:
        _refuse_full_batch(first, data.train.n_rows)
    dtype = training_dtype(first.precision, data.train.n_features, first.hidden, device)
    return Problem(
        batches=batches(
            data.train, data.scaling, batch_size=first.batch_size, order_seed=first.order_seed,
            dtype=dtype, device=device, working_set=working_set, kept=kept,
        ),
        labels=torch.from_numpy(np.searchsorted(data.present, data.labels)).to(device),
        held_out=HeldOut.of(data.select, data.scaling, device, working_set),
        n_inputs=data.train.n_features,
        n_outputs=head.outputs_for(len(data.present)),
        n_steps=steps,
        device=device,
    )  # fmt: skip


def _fingerprint(
    data: TrainingData,
    head: type[TrainedHead],
    recipes: list[Recipe],
    device: str,
    working_set: int,
    begun: list[list[Float64s]] | None,
) -> str:
    """Hash of all that a checkpoint depends on."""
    import torch

    return content_hash({
        **({} if begun is None else {"starts": [arrays_hash(arrays) for arrays in begun]}),
        "kind": head.kind,
        "data": data.fingerprint,
        "recipes": [recipe.to_dict() for recipe in recipes],
        "working_set": working_set,
        "device": device,
        "torch": torch.__version__,
    })


def _for_rows(recipe: Recipe, data: TrainingData) -> Recipe:
    """A loss that needs certain rows in a batch says so before anything is trained."""
    loss = recipe.loss
    if not isinstance(loss, ConformalRisk | ConformalSets):
        return recipe
    told = loss.among(data.present)
    told.require_feasible(np.searchsorted(data.present, data.labels), recipe.batch_size)
    return replace(recipe, loss=told)


def _assembled(
    head: type[H], data: TrainingData, recipe: Recipe, outcome: "Trained | DataError"
) -> H | DataError:
    if isinstance(outcome, DataError):
        return outcome
    arrays = [w.astype(np.float64) for w in outcome.weights]
    layers = tuple(zip(arrays[::2], arrays[1::2], strict=True))
    network = Network(data.scaling.mean, data.scaling.scale, layers)
    return head.assembled(
        Assembly(network, data.present, data.n_classes, recipe, outcome.history, data.train.n_rows)
    )


def _groups(recipes: Sequence[Recipe]) -> list[list[int]]:
    """Numbers of the recipes of equal structure, in order of their first."""
    groups: dict[Recipe, list[int]] = {}
    for i, recipe in enumerate(recipes):
        groups.setdefault(recipe.structure(), []).append(i)
    return list(groups.values())


def _renumbered(on_epoch: "OnEpoch", members: list[int]) -> "OnEpoch":
    return lambda j, epoch: on_epoch(members[j], epoch)


def _part(path: Path, group: int) -> Path:
    return path if group == 0 else path.with_name(f"{path.stem}.{group}{path.suffix}")


def _check_recipe(head: type[TrainedHead], recipe: Recipe) -> None:
    if not isinstance(recipe.loss, head.losses):
        known = ", ".join(getattr(loss, "kind", "") for loss in head.losses)
        raise ConfigError(f"the {head.kind} head is trained with {known}, not {recipe.loss.kind}.")

    if recipe.accumulation > 1 and isinstance(recipe.loss, ConformalRisk | ConformalSets):
        raise ConfigError(
            f"{recipe.loss.kind} looks at a batch as a whole; leave accumulation at 1."
        )


def _check_starts(
    recipes: Sequence[Recipe], starts: Sequence[Network] | None, data: TrainingData
) -> None:
    for recipe, start in zip(recipes, starts or (), strict=starts is not None):
        wanted = (data.train.n_features, recipe.hidden, data.n_classes)
        given = (len(start.mean), hidden_of(start), start.n_outputs)
        if wanted != given:
            raise ConfigError(
                "a network to start from must have the features, hidden units and classes of the "
                f"fit, {wanted}; got {given}."
            )


def _refuse_full_batch(recipe: Recipe, n: int) -> None:
    if recipe.sharpness is not None and recipe.sharpness.sigma > 0:
        raise ConfigError(
            f"Friendly SAM needs mini-batches: the {n} training rows are one batch of "
            f"{recipe.batch_size}, whose gradient less its own average is noise. Use a batch_size "
            f"of at most {max(1, n // 2)}, or sigma = 0 (SAM)."
        )


def _check_device(device: str) -> None:
    if device == "cpu":
        return
    import torch

    try:
        asked = torch.device(device)
        usable = asked.type == "cuda" and (asked.index or 0) < torch.cuda.device_count()
    except RuntimeError:
        usable = False
    if not usable:
        raise ConfigError(f"device {device!r} cannot be used here: use 'cpu' or a CUDA device.")
