"""Tools for tests: a fake clock, telemetry in memory, replay, and the chaos server."""
