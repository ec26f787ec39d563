"""What watches one exchange: the engine, the call, the observer, the reader. Sans-IO; no OpenTelemetry."""
