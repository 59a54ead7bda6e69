"""What a fit says about itself that somebody should look at."""

from selectkit.config import FitConfig
from selectkit.heads import Epoch
from selectkit.pipeline.fitted import FittedHead
from selectkit.pipeline.inputs import Inputs
from selectkit.pipeline.recipes import TRAINED, epochs_judged_by

FEW_STEPS = 300


def noticed(config: FitConfig, inputs: Inputs, fitted: FittedHead) -> tuple[str, ...]:
    """Return warnings about a fitted head, one line each.

    Args:
        config: Its settings.
        inputs: What it was fitted on.
        fitted: The head, after its logits were to be written.

    Returns:
        The lines; none when all is well.
    """
    return (
        *_unwritten(inputs, fitted),
        *_unreached(config, fitted),
        *_few_steps(config, len(inputs.train.y)),
    )


def _unwritten(inputs: Inputs, fitted: FittedHead) -> tuple[str, ...]:
    if fitted.name in inputs.store.heads(fitted.home):
        return ()
    return (
        f"{inputs.store.path} could not be written: the head's logits are not in it, and will be "
        "computed again each time they are needed, until it can",
    )


def _unreached(config: FitConfig, fitted: FittedHead) -> tuple[str, ...]:
    """A rate that no epoch could keep, whatever was left out."""
    history: tuple[Epoch, ...] = getattr(fitted.head, "history", ())
    by_rate = epochs_judged_by(config).startswith("coverage@")
    if not by_rate or not history or any(epoch.criterion for epoch in history):
        return ()
    return (
        f"at no epoch does any share of val_select keep {config.select_by.partition('@')[2]}; of "
        "such epochs that of the lowest NLL is kept",
    )


def _few_steps(config: FitConfig, n_train: int) -> tuple[str, ...]:
    steps = config.epochs * -(-n_train // config.batch_size)
    if config.head not in TRAINED or steps >= FEW_STEPS:
        return ()
    return (
        f"{steps} steps in all are few to train a head; more --epochs, a smaller --batch-size or a "
        "larger --learning-rate may do better",
    )
