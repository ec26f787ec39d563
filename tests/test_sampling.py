"""Evenly spaced samples of a series of any length, and the percentile of what they are."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_llmstream.core.sampling import Decimator, percentile


def taken(most: int, batches: list[list[float]]) -> list[float]:
    samples = Decimator(most)
    for batch in batches:
        samples.extend(batch)
    return list(samples.values)


def test_all_are_kept_while_there_is_room():
    """Up to the limit nothing is thinned."""
    assert taken(8, [[0, 1, 2], [], [3, 4, 5, 6, 7]]) == list(range(8))


@pytest.mark.parametrize(
    ("length", "kept"),
    [(9, [0, 2, 4, 6, 8]), (16, [0, 2, 4, 6, 8, 10, 12, 14]), (17, [0, 4, 8, 12, 16]), (100, list(range(0, 100, 16)))],
)
def test_past_the_limit_they_are_thinned_evenly(length, kept):
    """One too many, and every second is dropped; the first is always kept."""
    assert taken(8, [list(range(length))]) == kept
    assert taken(8, [[number] for number in range(length)]) == kept


def test_none_are_kept_where_none_are_wanted():
    """A limit of 0 keeps nothing."""
    assert taken(0, [[1, 2, 3]]) == []


@given(most=st.integers(1, 20), sizes=st.lists(st.integers(0, 50), max_size=20))
def test_batches_make_no_difference(most, sizes):
    """However the series comes in batches: evenly spaced from its first value, at most so many, never under half."""
    numbers = iter(range(sum(sizes)))
    kept = taken(most, [[next(numbers) for _ in range(size)] for size in sizes])
    total = sum(sizes)
    assert kept == taken(most, [list(range(total))])
    assert len(kept) <= most
    step = int(kept[1] - kept[0]) if len(kept) > 1 else max(total, 1)
    assert kept == list(range(0, total, step))
    assert len(kept) >= min(total, (most + 1) // 2)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.95, None),
        ([7.0], 0.95, 7.0),
        ([3, 1, 2], 0.5, 2),
        (range(1, 101), 0.95, 95),
        (range(1, 21), 0.95, 19),
        (range(1, 22), 0.95, 20),
        (range(1, 101), 1.0, 100),
        (range(1, 101), 0.0, 1),
    ],
)
def test_percentile(values, share, expected):
    """Nearest rank: a value that was there, never one between two."""
    assert percentile(values, share) == expected


@given(values=st.lists(st.floats(0, 1e6), min_size=1, max_size=200), share=st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_percentile_is_what_its_name_says(values, share):
    """At least that share of the values is not above it, and less than that share is below it."""
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values) + 1e-9


def test_a_thinned_series_keeps_its_median():
    """Of a long series the sample tells the same."""
    series = [float(number % 1000) for number in range(100_003)]
    assert statistics.median(taken(4096, [series])) == pytest.approx(statistics.median(series), rel=0.05)
