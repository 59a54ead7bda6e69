"""Scores of a run: fitted on its train split, or for a gate calibrated on val_select."""

import numpy as np

from selectkit import artifact, heads
from selectkit.cache import Features, FeatureStore, Rows
from selectkit.calibrate import Platt
from selectkit.errors import CalibrationError, ConfigError, LeakageError
from selectkit.pipeline.run import RunDirectory
from selectkit.policies import FITTED, NAMES, SCORES, Outputs, OwnScore, TrainRows
from selectkit.policies.scores import Gate


def available(outputs: Outputs) -> tuple[str, ...]:
    """Return the names of the scores that a run's head allows, in the order of `NAMES`."""
    return tuple(name for name in NAMES if name != Gate.kind or outputs.gate is not None)


def train_rows(run: RunDirectory, store: FeatureStore) -> tuple[Features, TrainRows]:
    """Read what a score may be fitted on: the labelled rows of train, and nothing else.

    Args:
        run: The run.
        store: Its store.

    Returns:
        The rows, and the same with the head's logits and, if it is linear, its weights.
    """
    rows, outputs = run.outputs(store, "train")
    classifier = heads.affine_of(run.head.head, len(run.head.classes))
    return rows, TrainRows(rows.x, rows.y, outputs.logits, classifier)


def fitted_on_train(name: str, rows: Features, train: TrainRows) -> OwnScore:
    """Fit one score.

    Args:
        name: A key of `FITTED`.
        rows: Where `train` comes from.
        train: What to fit on.

    Returns:
        The score.

    Raises:
        LeakageError: If the rows are not those of train.
    """
    if rows.split != "train":
        raise LeakageError(f"a score is fitted on train only; got the rows of {rows.split}.")
    return FITTED[name].fit(train)


def calibrated_gate(select: Rows, outputs: Outputs) -> tuple[Gate, tuple[str, ...]]:
    """Fit a logistic curve from the gate's logits to whether predictions are right.

    Args:
        select: Rows of val_select.
        outputs: What head, calibrator and gate say about them.

    Returns:
        The gate, and what the user should know: when val_select cannot calibrate it, its logits are
        taken as they are, which changes no order.

    Raises:
        ConfigError: If the head has no gate.
        LeakageError: If the rows are not those of val_select.
    """
    if outputs.gate is None:
        raise ConfigError(
            "--policy gate and --score gate need a head with a trained gate; this run's head has "
            "none. Fit one with --head three, or take another policy or score."
        )
    if select.split != "val_select":
        raise LeakageError(f"a gate is calibrated on val_select; got the rows of {select.split}.")
    right = (outputs.prediction == select.y).astype(np.int64)
    try:
        curve = Platt.fit(np.stack([np.zeros(len(right)), outputs.gate], axis=1), right)
    except CalibrationError:
        why = (
            "every prediction of val_select is equally right"
            if right.min() == right.max()
            else (
                "on val_select its logits do not rise with right predictions: it is no better than "
                "chance there"
            )
        )
        return Gate(), (f"the gate stays uncalibrated: {why}",)
    return Gate(curve.slope, curve.intercept), ()


def score_named(
    name: str, run: RunDirectory, store: FeatureStore, select: Features, outputs: Outputs
) -> tuple[str | OwnScore, str, tuple[str, ...]]:
    """Return the score of that name, ready to be thresholded.

    Args:
        name: One of `NAMES`.
        run: The run.
        store: Its store.
        select: Rows of val_select.
        outputs: What head, calibrator and gate say about them.

    Returns:
        The name itself or the fitted score, the fingerprint of the rows it was fitted on ("" for
        none), and what the user should know.
    """
    if name in SCORES:
        return name, "", ()
    if name == Gate.kind:
        gate, notes = calibrated_gate(select, outputs)
        return gate, select.fingerprint, notes
    rows, train = train_rows(run, store)
    return fitted_on_train(name, rows, train), rows.fingerprint, ()


def save_score(
    run: RunDirectory, score: str | OwnScore, fitted_on: str, calibrator: str
) -> tuple[dict[str, str], frozenset[str]]:
    """Write score.json, or gateparams.json for a gate.

    Args:
        run: The run.
        score: As from `score_named`.
        fitted_on: Fingerprint of the rows.
        calibrator: Hash of the probability calibrator.

    Returns:
        The field of the policy's artifact that names the score, and the files that were written;
        both empty for a plain score.
    """
    if isinstance(score, str):
        return {}, frozenset()
    if isinstance(score, Gate):
        fields = {
            **score.to_dict(),
            "fitted_on": fitted_on,
            "calibrator": calibrator,
            "head": run.head.hash,
        }
        hash_ = artifact.save(run.path / "gateparams.json", "gateparams", fields)
        return {"score_artifact": hash_}, frozenset({"gateparams.json"})
    document, tensors = score.to_artifact()
    fields = {**document, "head": run.head.hash, "train_split": fitted_on}
    hash_ = artifact.save(run.path / "score.json", "score", fields, tensors)
    return {"score_artifact": hash_}, frozenset({"score.json", "score.safetensors"})
