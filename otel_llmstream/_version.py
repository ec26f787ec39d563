"""The version, in the one place that the build and the telemetry scope both read."""

__version__ = "0.1.0"
