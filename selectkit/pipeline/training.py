"""One or many heads from inputs: together where that is possible, resumed where they had got to."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeAlias

from selectkit import heads
from selectkit.config import FitConfig
from selectkit.errors import DataError
from selectkit.heads.network import Network
from selectkit.heads.prepared import arrays_hash
from selectkit.heads.training.device import resolved
from selectkit.pipeline.conformal import (
    halves,
    head_of_run,
    objective,
    require_tunable,
)
from selectkit.pipeline.criteria import Criterion, criterion
from selectkit.pipeline.inputs import Inputs
from selectkit.pipeline.recipes import (
    SIMPLE,
    TRAINED,
    first_training,
    is_conformal,
    recipe_of,
    without_unused,
)
from selectkit.pipeline.unfinished import Unfinished, key_of

CHECKPOINT_SECONDS = 1.0
"""What an interruption costs at most, besides the epoch it falls into."""

OnEpoch: TypeAlias = Callable[[int, heads.Epoch], None]
"""Called with the number of a configuration and its finished epoch."""

OnHead: TypeAlias = Callable[[int], None]
"""Called with the number of a configuration whose head is finished."""


def fit_heads(
    inputs: Inputs,
    configs: Sequence[FitConfig],
    unfinished: Unfinished,
    on_epoch: OnEpoch | None = None,
    on_head: OnHead | None = None,
) -> list[heads.Head | DataError]:
    """Fit one head per configuration, all on the same inputs.

    Configurations of trained heads that differ in numbers only are trained together.

    Args:
        inputs: What to fit on; view and feature of the configurations are not looked at.
        configs: The configurations.
        unfinished: Where interrupted work lies, and is put.
        on_epoch: Called after every epoch that is trained now.
        on_head: Called when a head is finished.

    Returns:
        For each configuration its head, or the error that says why there is none.

    Raises:
        ConfigError: If a setting makes no sense.
        DataError: If the inputs cannot be fitted on.
    """
    judge = criterion_for(inputs, configs[0].select_by)
    found: dict[int, heads.Head | DataError] = {}
    try:
        for i, config in enumerate(configs):
            if config.head in SIMPLE:
                found[i] = _simple(inputs, config, unfinished)
                if on_head is not None:
                    on_head(i)
            elif is_conformal(config):
                told = None if on_epoch is None else _renumbered(on_epoch, [i])
                found[i] = _fine_tuned(inputs, config, unfinished, told)
                if on_head is not None:
                    on_head(i)
        for kind in TRAINED:
            members = [i for i, c in enumerate(configs) if c.head == kind and not is_conformal(c)]
            if not members:
                continue
            chosen = [configs[i] for i in members]
            told = None if on_epoch is None else _renumbered(on_epoch, members)
            fitted = _trained(inputs, chosen, judge, unfinished, told)
            found |= dict(zip(members, fitted, strict=True))
            for i in members:
                if on_head is not None:
                    on_head(i)
    except DataError:
        inputs.name_what_is_not_finite()
        raise
    return [found[i] for i in range(len(configs))]


def starting_head(
    inputs: Inputs, config: FitConfig, unfinished: Unfinished, on_epoch: OnEpoch | None = None
) -> heads.Head:
    """Return the head that is fine-tuned: that of `init`, or one that is trained by cross-entropy.

    Args:
        inputs: What is fitted on.
        config: The settings of the fine-tuning.
        unfinished: Where the head is kept, once it is trained, until everything is finished.
        on_epoch: Called after every epoch that is trained now.

    Returns:
        The head.

    Raises:
        ConfigError: If the head of `init` does not fit.
        DataError: If there is none.
    """
    if config.init is not None:
        return head_of_run(inputs, config).head
    half, _ = halves(inputs)
    (head,) = fit_heads(half, [first_training(config)], unfinished, on_epoch)
    if isinstance(head, DataError):
        raise head
    return head


def _fine_tuned(
    inputs: Inputs, config: FitConfig, unfinished: Unfinished, on_epoch: OnEpoch | None
) -> heads.Head | DataError:
    loss = require_tunable(inputs, config)
    start = heads.starting_network(starting_head(inputs, config, unfinished))
    if config.init is not None:
        config = replace(config, hidden=heads.hidden_of(start) or 0)
    half, _ = halves(inputs)
    return _trained(half, [config], objective(loss), unfinished, on_epoch, start)[0]


def criterion_for(inputs: Inputs, name: str) -> Criterion:
    """Return a criterion that val_select can be judged by.

    Args:
        inputs: What is fitted on.
        name: As for `criterion`.

    Returns:
        The criterion.

    Raises:
        ConfigError: If there is none of that name.
        DataError: If it needs positives and val_select has none.
    """
    judge = criterion(name, inputs.positive)
    needs_positives = name.startswith("coverage@fnr")
    if needs_positives and not (inputs.select.y == inputs.positive).any():
        raise DataError(
            f"select_by = {name!r} needs positives in val_select, and there are none of "
            f"{inputs.positive_label!r}. Label more, or use --select-by nll."
        )
    return judge


def _simple(inputs: Inputs, config: FitConfig, unfinished: Unfinished) -> heads.Head:
    key = _key(inputs, [config])
    head = unfinished.recall(key)
    if head is None:
        held_out = (inputs.features_of(inputs.select), inputs.select.y)
        head = SIMPLE[config.head].fit(
            inputs.features_of(inputs.train),
            inputs.train.y,
            select=held_out,
            n_classes=len(inputs.classes),
        )
        if config.folds is not None:
            unfinished.keep(key, head)
    return head


def _trained(
    inputs: Inputs,
    configs: Sequence[FitConfig],
    judge: Criterion,
    unfinished: Unfinished,
    on_epoch: OnEpoch | None,
    start: Network | None = None,
) -> Sequence[heads.Head | DataError]:
    device = resolved(configs[0].device)
    keys = [_key(inputs, [config], device, start) for config in configs]
    kept = [unfinished.recall(key) for key in keys]
    if all(head is not None for head in kept):
        return [head for head in kept if head is not None]
    recipes = [recipe_of(config, len(inputs.classes), inputs.positive) for config in configs]
    head_class: Any = TRAINED[configs[0].head]
    fitted: list[heads.Head | DataError] = heads.fit_many(
        head_class,
        inputs.features_of(inputs.train),
        inputs.train.y,
        select=(inputs.features_of(inputs.select), inputs.select.y),
        n_classes=len(inputs.classes),
        recipes=recipes,
        criterion=judge,
        on_epoch=on_epoch,
        checkpoint=unfinished.training(_key(inputs, configs, device, start)),
        checkpoint_every=CHECKPOINT_SECONDS,
        device=device,
        starts=None if start is None else [start],
    )
    for key, head in zip(keys, fitted, strict=True):
        if not isinstance(head, DataError):
            unfinished.keep(key, head)
    return fitted


def _key(
    inputs: Inputs,
    configs: Sequence[FitConfig],
    device: str = "cpu",
    start: Network | None = None,
) -> str:
    about = {"view", "feature", "positive", "device", "folds", "tensorboard", "init"}
    told = [
        {name: value for name, value in asdict(without_unused(c)).items() if name not in about}
        for c in configs
    ]
    begun = {} if start is None else {"start": arrays_hash(start.to_tensors().values())}
    return key_of(inputs=inputs.identity(), configs=told, device=device, **begun)


def _renumbered(on_epoch: OnEpoch, members: Sequence[int]) -> OnEpoch:
    return lambda j, epoch: on_epoch(members[j], epoch)
