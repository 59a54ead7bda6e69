"""The monitor of a promise: states, weights, storage, sentences, refusals."""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from selectkit import artifact, schemas
from selectkit.errors import ArtifactError, DataError, RiskError
from selectkit.risk import Certificate, certify_threshold
from selectkit.risk.monitor import RiskMonitor
from selectkit.stats.eprocess import EProcess, Restarts
from selectkit.stats.sequences import anytime_lower, anytime_upper

KINDS = get_args(Restarts)


def document(monitor: RiskMonitor) -> dict[str, Any]:
    """As in a file: through JSON text, checked by the schema."""
    full = {"kind": "monitor", "format_version": 1, **monitor.to_dict()}
    schemas.validate(full, "monitor.json")
    loaded: dict[str, Any] = json.loads(json.dumps(full, allow_nan=False))
    return loaded


def certificate() -> Certificate:
    found = certify_threshold(np.linspace(1, 0, 300), np.zeros(300), alpha=0.02, risk="fnr")
    assert isinstance(found, Certificate)
    return found


def test_the_promise_is_taken_from_the_certificate() -> None:
    monitor = RiskMonitor.start(certificate())
    assert (monitor.risk, monitor.alpha, monitor.alarm_at) == ("fnr", 0.02, 20)
    assert (monitor.audited, monitor.alarm, monitor.estimate) == (0, False, None)
    assert monitor.interval() == (0, 1)
    assert monitor.e_value == monitor.p_value == 1


def test_it_is_the_e_process_of_the_audited_losses() -> None:
    losses = np.random.default_rng(0).random(500) < 0.06
    monitor = RiskMonitor.start(0.02, restarts="never").update(losses)
    process, path = EProcess.start(0.02).advance(losses)
    assert monitor.e_value == pytest.approx(process.value, rel=1e-12)
    assert monitor.alarmed_after == 1 + int(np.argmax(path >= np.log(20)))
    assert monitor.alarm
    assert monitor.p_value is not None
    assert monitor.p_value <= 0.05
    assert monitor.estimate == losses.mean()
    assert monitor.interval(0.1) == (
        anytime_lower(losses.sum(), 500, 0.05),
        anytime_upper(losses.sum(), 500, 0.05),
    )


@pytest.mark.parametrize("restarts", KINDS)
@pytest.mark.parametrize("least", [1.0, 0.2])
def test_batches_and_storage_do_not_change_a_bit(least: float, restarts: Restarts) -> None:
    rng = np.random.default_rng(1)
    losses = rng.random(700) * (rng.random(700) < 0.08)
    q = None if least == 1 else rng.uniform(0.2, 1, 700)
    start = RiskMonitor.start(0.03, restarts=restarts, least_probability=least, run_length=50)
    whole = start.update(losses, q)
    state = start
    for first in range(700):
        state = state.update(losses[first : first + 1], None if q is None else q[first : first + 1])
        if first % 100 == 0:
            state = RiskMonitor.from_dict(document(state))
    assert state == whole
    assert RiskMonitor.from_dict(document(whole)) == whole


def test_a_file_is_written_and_read_like_every_artifact(tmp_path: Path) -> None:
    monitor = RiskMonitor.start(certificate()).update([0, 1, 1, 0])
    artifact.save(tmp_path / "monitor.json", "monitor", monitor.to_dict())
    loaded, tensors = artifact.load(tmp_path / "monitor.json", "monitor")
    assert tensors == {}
    assert RiskMonitor.from_dict(loaded) == monitor


def test_an_alarm_stays_and_keeps_its_time() -> None:
    monitor = RiskMonitor.start(0.02).update([1, 1, 1, 1])
    later = monitor.update(np.zeros(5000))
    assert monitor.alarmed_after == later.alarmed_after == 2
    assert later.e_value < 1
    assert later.alarm


def test_nothing_to_pass_changes_nothing() -> None:
    monitor = RiskMonitor.start(0.02, least_probability=0.5).update([0.0, 1.0], [0.5, 1.0])
    assert monitor.update([], []) is monitor
    assert RiskMonitor.start(0.02).update([]) == RiskMonitor.start(0.02)


def test_equal_probabilities_need_no_weights() -> None:
    losses = np.random.default_rng(2).random(300) < 0.05
    plain = RiskMonitor.start(0.02).update(losses)
    weighted = RiskMonitor.start(0.02, least_probability=0.1).update(losses, np.full(300, 0.1))
    assert weighted.process == plain.process
    assert weighted.interval() == plain.interval()


def test_a_sure_audit_counts_less_than_a_lucky_one() -> None:
    """Audited at q = 1 it stands for itself; audited at q = 0.1 it stands for ten."""
    start = RiskMonitor.start(0.02, least_probability=0.1, restarts="never")
    sure, lucky = start.update([1.0], [1.0]), start.update([1.0], [0.1])
    assert sure.process.mean == 0.02
    bets = np.array(start.process.bets)
    assert sure.e_value == pytest.approx(np.mean(1 + bets * 0.1 * (1 - 0.02)))
    assert lucky.e_value == pytest.approx(np.mean(1 + bets * (1 - 0.02)))
    both = sure.update([0.0], [0.1])
    assert both.estimate == pytest.approx(0.1 / 1.1)


def test_loss_at_the_promise_leaves_the_capital() -> None:
    start = RiskMonitor.start(0.02, restarts="never")
    assert start.update(np.full(100, 0.02)).e_value == 1


@pytest.mark.parametrize(
    ("restarts", "words"),
    [
        ("never", "the probability of an alarm at any time is at most 0.05"),
        ("spread", "the probability of an alarm at any time is at most 0.05"),
        ("sum", "on average after 10000 audits or later, and within "),
        ("max", "on average after 10000 audits or later"),
    ],
)
def test_sentences_say_what_is_proven(restarts: Restarts, words: str) -> None:
    start = RiskMonitor.start(certificate(), restarts=restarts)
    assert start.sentence().startswith("No audit yet of the promise that the fnr among accepted")
    quiet = start.update(np.zeros(60)).sentence()
    assert quiet.startswith("No alarm after 60 audited positives")
    assert "does not prove" in quiet
    loud = start.update(np.ones(60)).sentence()
    assert loud.startswith("ALARM after ")
    assert "of 60 audited positives" in loud
    assert words in loud
    assert "95 % confidence at all times" in loud


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"promise": 0.0}, "promised risk"),
        ({"promise": 1.0}, "promised risk"),
        ({"promise": float("nan")}, "promised risk"),
        ({"promise": 0.02, "delta": 0.0}, "delta"),
        ({"promise": 0.02, "run_length": 1}, "run_length"),
        ({"promise": 0.02, "run_length": np.nan}, "run_length"),
        ({"promise": 0.02, "least_probability": 0.0}, "least_probability"),
        ({"promise": 0.02, "least_probability": 1.1}, "least_probability"),
        ({"promise": 0.02, "restarts": "daily"}, "restarts"),
        ({"promise": 0.02, "bets": [50.0]}, "bets"),
    ],
)
def test_impossible_monitors_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RiskError, match=words):
        RiskMonitor.start(**options)


def test_a_coverage_without_a_promise_cannot_be_watched() -> None:
    found = certificate()
    nothing = Certificate.from_dict({**found.to_dict(), "risk": "coverage", "kind": "none"})
    with pytest.raises(RiskError, match="nothing is promised about coverage"):
        RiskMonitor.start(nothing)


@pytest.mark.parametrize(
    ("losses", "q", "words"),
    [
        ([0.0, np.nan], [0.5, 0.5], "nan in row 1"),
        ([0.0, 2.0], [0.5, 0.5], "2 in row 1"),
        ([[0.0]], [0.5], "shape"),
        (["no"], [0.5], "real numbers"),
        ([0.0], None, "probabilities are missing"),
        ([0.0], [0.1], "probability 0.1 in row 0 is outside \\[0.2, 1\\]"),
        ([0.0, 0.0], [0.5, 1.01], "in row 1"),
        ([0.0], [np.nan], "probabilities is nan"),
        ([0.0, 0.0], [0.5], "have shape"),
        ([], [0.5], "N >= 1"),
        ([0.0], [], "N >= 1"),
        ([0.0], 0.5, "shape"),
    ],
)
def test_bad_audits_are_refused(losses: Any, q: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        RiskMonitor.start(0.02, least_probability=0.2).update(losses, q)


def test_smaller_probabilities_must_have_been_announced() -> None:
    with pytest.raises(DataError, match="stated in advance"):
        RiskMonitor.start(0.02).update([0.0], [0.5])
    assert RiskMonitor.start(0.02).update([0.0], [1.0]).audited == 1


@pytest.mark.parametrize(
    "change",
    [
        {"monitor": "drift"},
        {"alpha": 0.03},
        {"risk": 3},
        {"least_probability": 0},
        {"alarm_at": 0.5},
        {"alarm_at": float("nan")},
        {"weights": 99.0},
        {"weighted_losses": 99.0},
        {"weighted_losses": -1.0},
        {"weights": "all"},
        {"alarmed_after": 5},
        {"alarmed_after": None},
        {"alarmed_after": 2.0},
        {"process": {}},
        {"process": None},
        {"extra": 1},
    ],
)
def test_damaged_states_are_refused(change: dict[str, Any]) -> None:
    state = document(RiskMonitor.start(0.02).update([1, 1, 0]))
    assert RiskMonitor.from_dict(state).alarmed_after == 2
    with pytest.raises(ArtifactError):
        RiskMonitor.from_dict({**state, **change})


def test_fields_must_be_complete() -> None:
    state = document(RiskMonitor.start(0.02))
    del state["weights"]
    with pytest.raises(ArtifactError, match="exactly the fields"):
        RiskMonitor.from_dict(state)
    with pytest.raises(ArtifactError, match="does not match its schema"):
        schemas.validate(state, "monitor.json")
