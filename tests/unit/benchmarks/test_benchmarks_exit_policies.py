"""Populations of the comparison of exit policies that have stages."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks._exit_rows import PRICES, staged, two_networks
from benchmarks.exit_policies import DELTA
from selectkit.pipeline.bench import compare_policies
from selectkit.policies import Targets

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"


def test_the_drawn_stages_are_a_weak_and_a_strong_one_of_the_same_rows() -> None:
    rows = staged(2000)
    assert rows.staged is not None
    weak, strong = (np.mean(o.prediction != rows.labels) for o in rows.staged.outputs)
    p = rows.staged.outputs[1].probabilities
    assert strong == pytest.approx(
        1 - p.max(axis=1).mean(), abs=0.03
    )  # its probabilities are right
    assert weak > strong + 0.01
    np.testing.assert_array_equal(rows.outputs.logits, rows.staged.outputs[0].logits)
    answer = compare_policies(
        rows, [Targets.parse("error=0.1")], delta=DELTA, share=0.3, splits=20,
        only=("one threshold", "cascade", "strong alone"),
    )  # fmt: skip
    costs = {s.policy: s.cost for s in answer.standings}
    assert set(costs) == {"one threshold", "cascade", "strong alone"}
    assert all(
        0 < (cost or 0) < sum(PRICES.stages) + (PRICES.human or 0) for cost in costs.values()
    )


def test_the_networks_are_about_the_same_images() -> None:
    if not DATA.is_dir():
        pytest.skip("real data are not there")
    rows = two_networks(DATA)
    assert rows is not None
    assert rows.staged is not None
    errors = [np.mean(o.prediction != rows.labels) for o in rows.staged.outputs]
    assert errors == pytest.approx([1 - 0.9109, 1 - 0.9505], abs=1e-9)


def test_missing_tables_are_left_out(tmp_path: Path) -> None:
    assert two_networks(tmp_path) is None
