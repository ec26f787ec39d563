"""What a summary says of a recorded stream, in the words of the corpus's index."""

from typing import Any

from otel_llmstream import Summary


def found(summary: Summary) -> dict[str, Any]:
    """The facts that the index knows too."""
    return {
        "outcome": summary.outcome,
        "finish_reasons": list(summary.finish_reasons),
        "terminator": summary.terminator,
        "chunks": summary.chunks,
        "frames": summary.frames,
        "malformed": summary.malformed_events,
        "input": summary.input_tokens,
        "output": summary.output_tokens,
        "model": summary.response_model,
        "error_type": summary.error_type,
    }
