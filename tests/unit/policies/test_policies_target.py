"""What a target may be, and the words for what it may not be."""

import pytest

from selectkit.errors import ConfigError
from selectkit.policies import POSITIVE_RISKS, RISKS, Target, Targets


@pytest.mark.parametrize("risk", sorted(RISKS))
def test_every_risk_is_read_and_written(risk: str) -> None:
    target = Target.parse(f" {risk} = 0.025 ")
    assert target == Target(risk, 0.025)
    assert Target.parse(str(target)) == target


def test_the_risks_are_the_documented_ones() -> None:
    assert sorted(RISKS) == [
        "coverage",
        "deferral",
        "error",
        "false_alarm",
        "fnr",
        "fpr",
        "miss_rate",
    ]
    assert sorted(POSITIVE_RISKS) == ["false_alarm", "fnr", "fpr", "miss_rate"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "fnr=2",
            "--target fnr=2: the rate must lie strictly between 0 and 1; did you mean fnr=0.02?",
        ),
        (
            "coverage=80",
            "--target coverage=80: the rate must lie strictly between 0 and 1; "
            "did you mean coverage=0.8?",
        ),
        ("fnr=0", "--target fnr=0: the rate must lie strictly between 0 and 1."),
        ("fnr=-0.1", "--target fnr=-0.1: the rate must lie strictly between 0 and 1."),
        ("fnr=200", "--target fnr=200: the rate must lie strictly between 0 and 1."),
        ("fnr=nan", "--target fnr=nan: the rate must lie strictly between 0 and 1."),
        ("fnr=2%", "--target fnr=2%: '2%' is not a number; did you mean fnr=0.02?"),
        ("fnr=0,02", "--target fnr=0,02: '0,02' is not a number; did you mean fnr=0.02?"),
        ("fnr=low", "--target fnr=low: 'low' is not a number; write fnr=0.02."),
        ("fnr=", "--target fnr=: '' is not a number; write fnr=0.02."),
        (
            "tpr=0.9",
            "--target tpr=0.9: unknown risk 'tpr'; "
            "known: error, fnr, miss_rate, fpr, false_alarm, deferral, coverage.",
        ),
        (
            "fnr",
            "--target fnr: expected RISK=RATE, for instance fnr=0.02; "
            "known risks: error, fnr, miss_rate, fpr, false_alarm, deferral, coverage.",
        ),
    ],
)
def test_unusable_targets_are_refused_with_the_way_out(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Target.parse(text)
    assert str(error.value) == message


def test_a_target_made_in_code_is_checked_as_well() -> None:
    with pytest.raises(ConfigError, match="unknown risk 'tpr'"):
        Target("tpr", 0.1)


def test_several_targets_are_read_in_their_order_and_written_back() -> None:
    targets = Targets.parse(" fnr=0.02, FPR=0.05 ,deferral=0.3")
    assert targets == (Target("fnr", 0.02), Target("fpr", 0.05), Target("deferral", 0.3))
    assert Targets.parse(str(targets)) == targets
    assert Targets.parse("error=0.1") == (Target("error", 0.1),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fnr=0.02,fnr=0.03", "--target fnr=0.02,fnr=0.03: fnr has two rates; keep the smaller"),
        ("error=0.1,coverage=0.8", "promises nothing and stands alone. Ask for deferral=RATE"),
        ("fnr=0.02,tpr=0.1", "--target tpr=0.1: unknown risk 'tpr'"),
        ("fnr=0.02,", "--target fnr=0.02,: '0.02,' is not a number"),
        ("fnr=0,02", "did you mean fnr=0.02"),
        ("", "--target : expected RISK=RATE"),
    ],
)
def test_unusable_combinations_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Targets.parse(text)
    assert message in str(error.value)
