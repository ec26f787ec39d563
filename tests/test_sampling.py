"""Evenly spaced samples of a series of any length, and percentiles: exact ones, and those of a sketch."""

import math
import random
import statistics
from array import array
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_llmstream.core.sampling import FEW_VALUES, GROWTH, MAX_BUCKETS, SMALLEST, Decimator, LogSketch, percentile


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


def test_no_room_is_held_for_further_times():
    """Of 128 times, 512 bytes are held at most."""
    samples = Decimator(128)
    for number in range(1_000):
        samples.extend([number * 0.02])
        assert samples.values.__sizeof__() <= array("f").__sizeof__() + 4 * 128


def test_a_thinned_series_keeps_its_median():
    """Of a long series the sample tells the same."""
    series = [float(number % 1000) for number in range(100_003)]
    assert statistics.median(taken(4096, [series])) == pytest.approx(statistics.median(series), rel=0.05)


# --- the sketch -------------------------------------------------------------------------------------------------------

SHARES = (0.0, 0.5, 0.9, 0.95, 0.99, 1.0)
LARGEST = SMALLEST * GROWTH**MAX_BUCKETS
SECONDS = st.floats(SMALLEST, LARGEST * 0.999)


def sketch_of(*batches: list[float]) -> LogSketch:
    sketch = LogSketch()
    for batch in batches:
        sketch.extend(batch)
    return sketch


@given(values=st.lists(SECONDS, min_size=1, max_size=100), share=st.sampled_from(SHARES))
def test_a_sketch_is_at_most_five_percent_off(values, share):
    """Compared with the exact percentile by nearest rank."""
    assert sketch_of(values).percentile(share) == pytest.approx(percentile(values, share), rel=0.05)


@given(values=st.lists(st.floats(-1.0, 1e9), min_size=1, max_size=50), share=st.sampled_from(SHARES))
def test_a_sketch_never_leaves_the_range(values, share):
    """Not even for values that are too small or too large for its buckets, or negative."""
    found = sketch_of(values).percentile(share)
    assert found is not None
    assert max(min(values), 0.0) <= found <= max(*values, 0.0)


@given(
    values=st.lists(st.floats(0.0, 1e5), max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    share=st.sampled_from(SHARES),
)
def test_batches_make_no_difference_to_a_sketch(values, cuts, share):
    """However the values come in batches, empty ones included, and in whatever order."""
    bounds = [0, *sorted(cuts), 60]
    batches = [values[start:end] for start, end in pairwise(bounds)]
    expected = sketch_of(values)
    for sketch in (sketch_of(*batches), sketch_of(*reversed(batches)), sketch_of(*([value] for value in values))):
        assert sketch.percentile(share) == expected.percentile(share)
        assert sketch.count == len(values)


@given(values=st.lists(SECONDS, min_size=1, max_size=FEW_VALUES), share=st.sampled_from(SHARES))
def test_a_sketch_of_few_values_is_exact(values, share):
    """They are not counted in buckets. They are kept in single precision."""
    assert sketch_of(values).percentile(share) == pytest.approx(percentile(values, share), rel=1e-6)


def test_a_sketch_of_nothing():
    """There is no percentile of no values."""
    assert sketch_of([], []).percentile(0.95) is None


@pytest.mark.parametrize("value", [0.0, 1e-9, SMALLEST, 0.02, LARGEST, 1e9])
def test_a_single_value_is_exact(value):
    """The range is one point."""
    assert sketch_of([value]).percentile(0.95) == value


def test_a_sketch_counts_more_than_two_bytes_can():
    """One bucket may have all values."""
    sketch = sketch_of(*([0.02] * 1_000 for _ in range(70)), [3.0] * 1_000)
    assert sketch.count == 71_000
    assert sketch.percentile(0.95) == pytest.approx(0.02, rel=0.05)
    assert sketch.percentile(0.99) == pytest.approx(3.0, rel=0.05)
    assert sketch_of([0.02] * 70_000).percentile(0.95) == 0.02


def test_a_sketch_is_bounded():
    """Of a million values of any size it holds 800 bytes of counts. Of a usual stream it holds fewer, in two bytes."""
    chance = random.Random(7)
    sketch = LogSketch()
    for _ in range(1_000):
        sketch.extend([math.exp(chance.uniform(-30, 30)) for _ in range(1_000)])
    assert sketch.count == 1_000_000
    assert len(sketch._kept) <= 4 * MAX_BUCKETS
    usual = sketch_of([chance.uniform(0.01, 0.1) for _ in range(10_000)])
    assert len(usual._kept) <= 2 * 26  # the buckets from 10 ms to 100 ms
