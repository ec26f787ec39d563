"""What the benchmark of the dialects measures is what it says: chunks of each dialect. Its figures are no test."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "bench"))

from dialects import feed, watcher
from samples import SAMPLES, SIZE

from otel_llmstream.core.states import End
from otel_llmstream.dialects import DIALECTS, Generic
from otel_llmstream.testing import capture

CHUNKS = 40


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_a_chunk(name):
    """Each read of a sample is one chunk of the dialect that it is called after, of about the size that all have."""
    sample = SAMPLES[name]
    chunk = sample.bytes()
    assert SIZE - 8 <= len(chunk) <= 2 * SIZE
    with capture() as captured:
        watching = watcher(captured.engine, sample)
        feed(watching, [sample.start] if sample.start else [])
        feed(watching, [chunk] * CHUNKS)
        watching.end(End.CLOSED)
        attributes = dict(captured.span.attributes or {})
    assert attributes["llmstream.dialect"] == name.partition(",")[0]
    assert (attributes["llmstream.chunks"], attributes.get("llmstream.malformed_events")) == (CHUNKS, None)


def test_every_dialect_has_a_sample():
    """No dialect goes unmeasured."""
    assert {name.partition(",")[0] for name in SAMPLES} == {dialect.name for dialect in (*DIALECTS, Generic)}
