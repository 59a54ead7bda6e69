"""Bins by their definition, at edges and under ties."""

from typing import Any

import numpy as np
import pytest

from selectkit.errors import DataError
from selectkit.metrics import confidence_ece, ece
from selectkit.metrics.bins import Bins, Scheme, mass_edges
from selectkit.metrics.labelled import Labelled, top_label


@pytest.mark.parametrize("n_bins", [1, 2, 3, 7, 10, 15, 49, 1000, 123_457])
def test_even_bins_are_cut_by_their_edges(n_bins: int) -> None:
    edges = np.arange(n_bins + 1) / n_bins
    beside = [
        edges,
        np.nextafter(edges, 0),
        np.nextafter(edges, 1),
        np.random.default_rng(0).random(99),
    ]
    values = np.append(np.concatenate(beside), 1 + 1e-6)
    expected = np.clip(np.searchsorted(edges, values, side="left") - 1, 0, n_bins - 1)
    np.testing.assert_array_equal(Bins.of_width(n_bins).index(values), expected)


@pytest.mark.parametrize("digits", [0, 1, 2, 16])
@pytest.mark.parametrize("n_bins", [1, 2, 15, 300])
def test_bins_of_equal_mass_go_by_the_rank_of_the_first_of_equals(n_bins: int, digits: int) -> None:
    values = np.round(np.random.default_rng(n_bins).random(200), digits)
    first_rank = np.array([np.count_nonzero(values < v) for v in values])
    expected = [np.count_nonzero(mass_edges(len(values), n_bins) <= rank) for rank in first_rank]
    np.testing.assert_array_equal(Bins.of(values, n_bins, "mass").index(values), expected)


@pytest.mark.parametrize("scheme", ["width", "mass"])
def test_confidences_alone_give_the_ece_of_the_top_label(scheme: Scheme) -> None:
    rng = np.random.default_rng(1)
    p, y = rng.dirichlet(np.ones(4), 500), rng.integers(0, 4, 500)
    top, right = p.max(axis=1), p.argmax(axis=1) == y
    expected = ece(p, y, scheme=scheme)
    assert confidence_ece(top, right, scheme=scheme) == expected
    assert confidence_ece(top.tolist(), right.astype(int), scheme=scheme) == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [2, 3, 31, 32, 300])
def test_of_equally_probable_classes_the_first_is_predicted(
    n_classes: int, dtype: type[np.floating[Any]]
) -> None:
    rng = np.random.default_rng(n_classes)
    drawn = rng.integers(1, 4, (500, n_classes)).astype(np.float64)  # most rows have ties
    p = (drawn / drawn.sum(axis=1, keepdims=True)).astype(dtype)
    y = np.where(rng.random(500) < 0.5, p.argmax(axis=1), rng.integers(0, n_classes, 500))
    confidence, right = top_label(Labelled.of(p, y))
    np.testing.assert_array_equal(confidence, p.max(axis=1))
    np.testing.assert_array_equal(right, p.argmax(axis=1) == y)


@pytest.mark.parametrize(
    ("confidence", "right", "text"),
    [
        ([0.5, 1.5], [0, 1], r"confidence must lie in \[0, 1\], got 0.5 to 1.5"),
        ([0.5, -np.inf], [0, 1], "confidence is -inf in row 1"),
        ([0.5, 0.6], [0, 2], "right must be booleans or 0 and 1"),
        ([0.5, 0.6], [True], r"confidence has shape \(2,\) but right has shape \(1,\)"),
        ([0.5, 0.6], [0, np.nan], "right must be booleans or 0 and 1"),
        ([[0.5], [0.6]], [0, 1], r"confidence must have shape \(N,\)"),
    ],
)
def test_confidences_that_are_none_are_refused(
    confidence: list[float], right: list[float], text: str
) -> None:
    with pytest.raises(DataError, match=text):
        confidence_ece(confidence, right)
