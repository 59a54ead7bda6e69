"""What costs may be, and what decisions cost."""

import numpy as np
import pytest

from selectkit.errors import ConfigError
from selectkit.policies import Costs
from selectkit.policies.outputs import Decision


@pytest.mark.parametrize("text", ["miss=50,false_alarm=3,defer=1", "error=20,defer=0.5"])
def test_costs_are_read_and_written(text: str) -> None:
    costs = Costs.parse(text.replace(",", " , ").replace("=", " = ").upper())
    assert str(costs) == text
    assert Costs(**costs.to_dict()) == costs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected NAME=COST"),
        ("miss=50", "defer is missing"),
        ("miss=50,defer=1", "name defer and either error or both miss and false_alarm"),
        ("error=5,miss=1,false_alarm=1,defer=1", "name defer and either error or both"),
        ("wait=1,defer=1", "each name once, names defer, error, false_alarm, miss"),
        ("defer=1,defer=2", "each name once"),
        ("error=much,defer=1", "'much' is not a number"),
        ("error=-1,defer=1", "--cost error=-1: a cost must be a number >= 0"),
        ("error=nan,defer=1", "a cost must be a number >= 0"),
        ("error=inf,defer=1", "a cost must be a number >= 0"),
        ("error=0,defer=1", "some error must cost more than nothing"),
    ],
)
def test_unusable_costs_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Costs.parse(text)
    assert message in str(error.value)


def test_each_decision_costs_what_it_turns_out_to_be() -> None:
    accepted = np.array([True, True, True, True, False, False])
    prediction, y = np.array([0, 1, 0, 1, 0, 1]), np.array([0, 1, 1, 0, 1, 1])
    decision = Decision(accepted, prediction, np.ones((6, 2), dtype=bool), np.zeros(6))
    two = Costs.parse("miss=50,false_alarm=3,defer=1").of(decision, y, 1)
    assert two.tolist() == [0, 0, 50, 3, 1, 1]
    assert Costs.parse("error=7,defer=1").of(decision, y, 0).tolist() == [0, 0, 7, 7, 1, 1]
