"""Epoch after epoch: judge, keep the best, stop early, write checkpoints."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from math import inf, isfinite
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from selectkit.errors import DataError
from selectkit.heads.training import checkpoint
from selectkit.heads.training.recipe import Epoch, Recipe
from selectkit.heads.training.run import EpochResult, Layers, Problem, Run
from selectkit.threads import WORTH_THREADS

if TYPE_CHECKING:
    from torch import Tensor

Weights = list[npt.NDArray[np.float32]]

Judge = Callable[[int, npt.NDArray[np.float32]], float]
"""Maps (configuration, its outputs (rows, O) on the held-out rows) to a number, lower is better."""

OnEpoch = Callable[[int, Epoch], None]
"""Called with the number of a configuration and its finished epoch."""


@dataclass(frozen=True, slots=True)
class Trained:
    """The best weights of one configuration, and how they came about.

    Attributes:
        weights: Per layer a matrix (in, out) and a vector (out,), float32.
        history: One entry per epoch.
    """

    weights: Weights
    history: tuple[Epoch, ...]


@dataclass(slots=True)
class _Member:
    """One configuration's standing."""

    recipe: Recipe
    history: list[Epoch] = field(default_factory=list)
    best: float = inf
    tie: float = inf
    weights: "list[Tensor] | None" = None
    since: int = 0
    failure: str | None = None
    active: bool = True


def train(
    problem: Problem,
    recipes: Sequence[Recipe],
    judge: Judge,
    *,
    on_epoch: OnEpoch | None = None,
    checkpoint_path: Path | None = None,
    checkpoint_every: float = 0.0,
    fingerprint: str = "",
    starts: Sequence[Layers] | None = None,
    tie: Judge | None = None,
) -> list[Trained | DataError]:
    """Train M configurations over the same batches.

    Args:
        problem: What is fitted.
        recipes: M recipes of equal structure.
        judge: Criterion of early stopping.
        on_epoch: Called after each epoch of each configuration, after the checkpoint was written.
        checkpoint_path: File to write after epochs and at the end, and to go on from if it exists.
        checkpoint_every: Least seconds between two checkpoints.
        fingerprint: What the checkpoint must match.
        starts: Weights to start from, of each recipe; they stay the best until an epoch is better.
        tie: Decides between epochs of equal criterion; without it the first stays. Asked of
            such epochs and of those that are the best so far.

    Returns:
        For each configuration its best weights, or why there are none.
    """
    members = [_Member(recipe) for recipe in recipes]
    with _threads_for(problem, recipes):
        run = Run(problem, recipes, starts)
        done = 0
        if starts is not None:
            _judge_starts(members, run, judge)
        if checkpoint_path is not None:
            done = _resume(checkpoint_path, fingerprint, members, run)
        written = monotonic()
        for number in range(done + 1, recipes[0].epochs + 1):
            trained = [i for i, m in enumerate(members) if m.active]
            if not trained:
                break
            _record(members, trained, run.epoch(number), run, (judge, tie), number)
            staying = [j for j, i in enumerate(trained) if members[i].active]
            if 0 < len(staying) < len(trained):
                run.keep(staying)
            ends = number == recipes[0].epochs or not any(m.active for m in members)
            due = ends or monotonic() - written >= checkpoint_every
            if checkpoint_path is not None and due:
                _save(checkpoint_path, fingerprint, members, run, number)
                written = monotonic()
            if on_epoch is not None:
                for i in trained:
                    if members[i].failure is None:
                        on_epoch(i, members[i].history[-1])
    return [_outcome(member) for member in members]


def _judge_starts(members: list[_Member], run: Run, judge: Judge) -> None:
    outputs = run.held_out_outputs(run.parameters)
    for i, member in enumerate(members):
        value = _judged(judge, i, outputs[:, i])
        if isfinite(value):
            member.best, member.tie = value, -inf
            member.weights = [p[i].cpu().clone() for p in run.parameters]


def _record(
    members: list[_Member],
    trained: list[int],
    result: EpochResult,
    run: Run,
    judges: tuple[Judge, Judge | None],
    number: int,
) -> None:
    """Judge the configurations whose loss is finite, and note who stops."""
    outputs = run.held_out_outputs()
    for j, i in enumerate(trained):
        member = members[i]
        wrong = np.flatnonzero(~np.isfinite(result.losses[:, j]))
        if wrong.size:
            member.failure, member.active = _exploded(member, result, j, number, run), False
            continue
        value = _judged(judges[0], i, outputs[:, j])
        member.since += 1
        if isfinite(value) and value <= member.best:
            found = value, inf if judges[1] is None else _judged(judges[1], i, outputs[:, j])
            if value < member.best or found < (member.best, member.tie):
                (member.best, member.tie), member.weights, member.since = found, run.averaged(j), 0
        member.history.append(
            Epoch(
                number,
                float(result.train_loss[j]),
                value if isfinite(value) else None,
                result.rates[j],
                {name: float(values[j]) for name, values in result.parts.items()},
            )
        )
        member.active = member.since < member.recipe.patience


def _judged(judge: Judge, i: int, outputs: npt.NDArray[np.float32]) -> float:
    """The criterion of one configuration; not finite where its outputs are not."""
    if not np.isfinite(outputs).all():
        return inf
    return float(judge(i, np.ascontiguousarray(outputs)))


def _exploded(member: _Member, result: EpochResult, j: int, number: int, run: Run) -> str:
    batch = int(np.flatnonzero(~np.isfinite(result.losses[:, j]))[0])
    step = (number - 1) * run.problem.n_steps + batch + 1
    return (
        f"the training loss became {result.losses[batch, j]} in epoch {number}, batch {batch + 1} "
        f"(step {step}); lower the learning rate ({member.recipe.learning_rate:g})."
    )


def _outcome(member: _Member) -> Trained | DataError:
    if member.failure is not None:
        return DataError(member.failure)
    if member.weights is None:
        return DataError(
            f"the criterion was never finite on the select rows in {len(member.history)} epochs; "
            "check the criterion and the select labels."
        )
    weights = [np.ascontiguousarray(t.numpy().T) for t in member.weights]
    return Trained(weights, tuple(member.history))


def _save(path: Path, fit: str, members: list[_Member], run: Run, number: int) -> None:
    tensors = run.state_dict()
    for i, member in enumerate(members):
        tensors |= {f"best.{i}.{k}": t for k, t in enumerate(member.weights or [])}
    document = {
        "fit": fit,
        "epoch": number,
        "step": run.step,
        "members": [
            {
                "active": m.active,
                "best": m.best if m.weights is not None else None,
                "tie": m.tie if isfinite(m.tie) else None,
                "since": m.since,
                "failure": m.failure,
                "history": [asdict(epoch) for epoch in m.history],
            }
            for m in members
        ],
    }
    checkpoint.save(path, document, tensors)


def _resume(path: Path, fit: str, members: list[_Member], run: Run) -> int:
    """Take over a checkpoint, if there is one; return the number of finished epochs."""
    found = checkpoint.load(path, fit)
    if found is None:
        return 0
    document, tensors = found
    for i, (member, state) in enumerate(zip(members, document["members"], strict=True)):
        _restore(member, state, [tensors[n] for n in _best_names(i, tensors)])
    active = [i for i, m in enumerate(members) if m.active]
    if 0 < len(active) < len(members):
        run.keep(active)
    run.load_state_dict(tensors, int(document["step"]))
    return int(document["epoch"])


def _restore(member: _Member, state: dict[str, Any], weights: "list[Tensor]") -> None:
    member.active, member.since = state["active"], state["since"]
    member.failure, member.weights = state["failure"], weights or None
    member.best = inf if state["best"] is None else state["best"]
    member.history = [Epoch(**epoch) for epoch in state["history"]]
    if member.since < len(member.history):  # else the start is the best, and wins every tie
        member.tie = inf if state.get("tie") is None else state["tie"]


def _best_names(member: int, tensors: "dict[str, Tensor]") -> list[str]:
    names = (f"best.{member}.{k}" for k in range(len(tensors)))
    return [name for name in names if name in tensors]


@contextmanager
def _threads_for(problem: Problem, recipes: Sequence[Recipe]) -> Iterator[None]:
    """One thread while products are small: waiting threads spin (see selectkit.threads)."""
    import torch

    before = torch.get_num_threads()
    width = (recipes[0].hidden or problem.n_outputs) * len(recipes)
    if recipes[0].batch_size * problem.n_inputs * width < WORTH_THREADS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
