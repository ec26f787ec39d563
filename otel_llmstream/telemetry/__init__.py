"""What leaves the process: spans, metrics, log lines and the health snapshot, made of summaries."""

from __future__ import annotations

from .health import Health, Latency
from .logs import EventLogger, add_trace_context
from .metrics import Live
from .recent import Recent
from .recording import CallRecording, Telemetry

__all__ = ["CallRecording", "EventLogger", "Health", "Latency", "Live", "Recent", "Telemetry", "add_trace_context"]
