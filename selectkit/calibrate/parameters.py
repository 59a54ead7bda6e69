"""Checks of stored parameters, and of logits against them."""

from math import isfinite
from typing import Any

from selectkit.calibrate.door import Float64s
from selectkit.errors import DataError


def numbers(values: Any, name: str, length: int | None = None) -> tuple[float, ...]:
    """Return finite floats.

    Args:
        values: A list.
        name: What it is called; used in the message.
        length: How many there must be; None = at least one.

    Returns:
        The numbers.

    Raises:
        ValueError: If a value is no finite number, or there are too many or too few.
    """
    if not isinstance(values, list):
        raise ValueError(f"{name} must be a list")
    found = tuple(float(value) for value in values)
    if not all(map(isfinite, found)):
        raise ValueError(f"{name} must be finite")
    if not found or (length is not None and len(found) != length):
        raise ValueError(f"{name} must be {length or 'some'} numbers, got {len(found)}")
    return found


def matrix(values: Any, name: str, rows: int, columns: int) -> tuple[tuple[float, ...], ...]:
    """Return a matrix of finite floats.

    Args:
        values: A list of lists.
        name: What it is called; used in the message.
        rows: Number of rows.
        columns: Number of columns.

    Returns:
        The rows.

    Raises:
        ValueError: If the shape or a value is wrong.
    """
    if not isinstance(values, list) or len(values) != rows:
        raise ValueError(f"{name} must have {rows} rows")
    return tuple(numbers(row, name, columns) for row in values)


def require_columns(z: Float64s, k: int) -> Float64s:
    """Return logits that have a column per class.

    Args:
        z: Logits, shape (N, K).
        k: The number of classes the calibrator was fitted on.

    Returns:
        The logits.

    Raises:
        DataError: If there are more or fewer columns.
    """
    if z.shape[1] != k:
        raise DataError(f"the calibrator was fitted on {k} classes, got logits of {z.shape[1]}.")
    return z
