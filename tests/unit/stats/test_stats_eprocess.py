"""E-processes against naive twins; batches, storage, edges."""

import json
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest

from selectkit.errors import ArtifactError, DataError, RiskError
from selectkit.stats.eprocess import EProcess, Restarts, default_bets

Floats = npt.NDArray[np.float64]
KINDS = get_args(Restarts)
RNG = np.random.default_rng(7)
STREAMS = {
    "coins": (RNG.random(150) < 0.1).astype(float),
    "between": RNG.beta(0.3, 5, 150),
    "zeros": np.zeros(150),
    "ones": np.ones(150),
}


def naive_path(x: Floats, mean: float, restarts: str) -> list[float]:
    """Every opening is a capital of its own, multiplied out in plain numbers."""
    bets = np.array(default_bets(mean))
    capitals: list[Floats] = []
    path = []
    for j, value in enumerate(x):
        weight = 1.0
        if restarts == "never":
            weight = float(j == 0)
        if restarts == "spread":
            weight = 0.5 * (j == 0) + 0.5 / ((j + 1) * (j + 2))
        capitals.append(np.full(len(bets), weight))
        for capital in capitals:
            capital *= 1 + bets * (value - mean)
        joined = np.max(capitals, axis=0) if restarts == "max" else np.sum(capitals, axis=0)
        path.append(float(joined.mean()))
    return path


@pytest.mark.parametrize("restarts", KINDS)
@pytest.mark.parametrize("stream", STREAMS)
def test_path_is_that_of_separate_capitals(stream: str, restarts: Restarts) -> None:
    x = STREAMS[stream]
    state, path = EProcess.start(0.05, restarts=restarts).advance(x)
    naive = naive_path(x, 0.05, restarts)
    assert np.exp(path) == pytest.approx(naive, rel=1e-9)
    assert state.value == pytest.approx(naive[-1], rel=1e-9)
    assert state.log_peak == pytest.approx(max(0.0, np.log(max(naive))), rel=1e-9, abs=1e-12)
    assert state.n == 150


@pytest.mark.parametrize("restarts", KINDS)
@pytest.mark.parametrize("size", [1, 3, 64, 1000, 9000])
def test_batches_of_any_size_give_the_same_bits(size: int, restarts: Restarts) -> None:
    x = np.random.default_rng(size).beta(0.2, 8, 20_000 if size > 1 else 3000)
    whole, path = EProcess.start(0.03, restarts=restarts).advance(x)
    state, parts = EProcess.start(0.03, restarts=restarts), []
    for first in range(0, len(x), size):
        state, part = state.advance(x[first : first + size])
        parts.append(part)
    assert state == whole
    assert np.concatenate(parts).tobytes() == path.tobytes()


def test_known_small_example() -> None:
    process = EProcess.start(0.2, bets=[0.5, 1.0]).update([1, 0])
    assert process.value == pytest.approx((1.4 * 0.9 + 1.8 * 0.8) / 2)
    assert process.log_peak == pytest.approx(np.log(1.6))
    assert process.p_value == pytest.approx(1 / 1.6)


def test_default_bets_are_those_of_the_reference_at_two_percent() -> None:
    assert default_bets(0.02) == pytest.approx(np.linspace(0.01, 0.25, 10) / 0.02)
    assert default_bets(0.5) == pytest.approx(np.linspace(0.01, 0.25, 10) / 0.5)
    for mean in (1e-9, 0.001, 0.02, 0.3, 0.999):
        assert max(default_bets(mean)) < 1 / mean


def test_a_doubled_small_rate_can_be_found() -> None:
    """Bets of 0.01 / mean and more would lose on a doubled rate of 0.1 %, however long."""
    small = EProcess.start(0.001)
    unscaled = EProcess.start(0.001, bets=np.linspace(0.01, 0.25, 10) / 0.001)
    assert small.detectable < 0.0013
    assert unscaled.detectable > 0.002
    losses = np.tile([1.0] + [0.0] * 499, 60)
    assert small.update(losses).value > 20
    assert unscaled.update(losses).value < 1


@pytest.mark.parametrize("mean", [0.001, 0.02, 0.2, 0.7])
def test_detectable_rate_is_where_the_best_bet_breaks_even(mean: float) -> None:
    process = EProcess.start(mean)
    bets = np.array(process.bets)

    def growth(rate: float) -> float:
        gain, loss = np.log(1 + bets * (1 - mean)), np.log(1 - bets * mean)
        return float((rate * gain + (1 - rate) * loss).max())

    assert mean < process.detectable < 1
    assert growth(process.detectable) == pytest.approx(0, abs=1e-12)
    assert growth(process.detectable * 1.01) > 0 > growth(process.detectable * 0.99)


@pytest.mark.parametrize("restarts", KINDS)
def test_storage_is_exact_and_goes_on(restarts: Restarts) -> None:
    x = np.random.default_rng(5).random(400) < 0.05
    state = EProcess.start(0.02, restarts=restarts).update(x[:250])
    loaded = EProcess.from_dict(json.loads(json.dumps(state.to_dict(), allow_nan=False)))
    assert loaded == state
    assert loaded.update(x[250:]) == EProcess.start(0.02, restarts=restarts).update(x)


@pytest.mark.parametrize("restarts", KINDS)
def test_long_streams_neither_overflow_nor_leave_the_numbers(restarts: Restarts) -> None:
    state = EProcess.start(0.02, restarts=restarts).update(np.ones(3000))
    assert state.value == np.inf
    assert state.p_value in {0.0, None}
    json.dumps(state.to_dict(), allow_nan=False)
    quiet = state.update(np.zeros(100_000))
    assert quiet.log_peak == state.log_peak
    json.dumps(quiet.to_dict(), allow_nan=False)


def test_a_detector_forgets_a_quiet_time_and_a_process_does_not() -> None:
    quiet, errors = np.zeros(5000), np.ones(4)
    process, spread, total, cusum = (
        EProcess.start(0.02, restarts=kind).update(quiet).update(errors) for kind in KINDS
    )
    assert process.value < 1e-10
    assert spread.value > 1e6 * process.value
    assert total.value >= cusum.value > 100
    assert total.p_value is None
    assert cusum.p_value is None
    assert spread.p_value == 1


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([0.1, np.nan], "nan in row 1"),
        ([1.5], "1.5 in row 0"),
        ([-0.1], "row 0"),
        ([], "N >= 1"),
        ([[0.1]], "shape"),
        (["x"], "real numbers"),
    ],
)
def test_bad_losses_are_refused(losses: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        EProcess.start(0.1).update(losses)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mean": 0.0}, "mean must"),
        ({"mean": 1.0}, "mean must"),
        ({"mean": float("nan")}, "mean must"),
        ({"mean": 0.1, "bets": []}, "at least one"),
        ({"mean": 0.1, "bets": [10.0]}, "between 0 and 1 / mean"),
        ({"mean": 0.1, "bets": [0.0, 1.0]}, "between 0"),
        ({"mean": 0.1, "bets": [np.nan]}, "between 0"),
        ({"mean": 0.1, "bets": [[1.0]]}, "list of numbers"),
        ({"mean": 0.1, "bets": "many"}, "list of numbers"),
        ({"mean": 0.1, "restarts": "often"}, "restarts must be one of"),
    ],
)
def test_impossible_starts_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RiskError, match=words):
        EProcess.start(**options)


@pytest.mark.parametrize(
    "change",
    [
        {"mean": 2.0},
        {"mean": "0.02"},
        {"bets": [60.0] * 10},
        {"bets": None},
        {"restarts": "yearly"},
        {"log_growth": [0.0]},
        {"log_growth": [float("nan")] * 10},
        {"log_openings": ["a"] * 10},
        {"n": -1},
        {"n": 1.5},
        {"n": True},
        {"log_value": float("inf")},
        {"log_value": None},
        {"log_peak": -1.0},
        {"log_value": 3.0},
        {"extra": 1},
    ],
)
def test_damaged_states_are_refused(change: dict[str, Any]) -> None:
    document = {**EProcess.start(0.02).to_dict(), **change}
    with pytest.raises(ArtifactError):
        EProcess.from_dict(document)


def test_missing_fields_are_named() -> None:
    document = EProcess.start(0.02).to_dict()
    del document["n"]
    with pytest.raises(ArtifactError, match="exactly the fields"):
        EProcess.from_dict(document)
    with pytest.raises(ArtifactError, match="exactly the fields"):
        EProcess.from_dict([])  # type: ignore[arg-type]
