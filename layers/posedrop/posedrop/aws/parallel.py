"""Call a function with many values at the same time."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

WORKERS = 32
"""Calls at the same time. Their boto3 client needs as many connections (botocore's max_pool_connections)."""

Parallel = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]
"""Calls a function with each of the values, and returns the results in order."""


def in_threads(function: Callable[[Any], Any], values: Sequence[Any]) -> list[Any]:
    """Call a function with each value in WORKERS threads, and return the results in order."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(function, values))
