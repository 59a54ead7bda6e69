"""Threads of the BLAS library, kept from spinning where they cannot help.

A BLAS thread that waits for its next share of a small product spins; on a machine with one busy
neighbour a fit of a second then takes a minute. Small products therefore run on one thread.
"""

from collections.abc import Iterator
from contextlib import contextmanager

WORTH_THREADS = 2e7
"""Multiply-adds of one product from which on threads pay for themselves (some milliseconds)."""


@contextmanager
def blas_threads_for(multiply_adds: float) -> Iterator[None]:
    """Use one BLAS thread while products are small, and all of them when they are not.

    Args:
        multiply_adds: Size of a typical product in the block.

    Yields:
        Nothing; the setting before is restored at the end.
    """
    from threadpoolctl import threadpool_limits

    limit = 1 if multiply_adds < WORTH_THREADS else None
    with threadpool_limits(limits=limit, user_api="blas"):
        yield
