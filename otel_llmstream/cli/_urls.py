"""Validation of web URLs and TCP ports, for all commands that have such an option."""

from __future__ import annotations

from argparse import ArgumentTypeError
from urllib.parse import SplitResult, urlsplit


def web_url(text: str) -> SplitResult | None:
    """The parts of an http or https URL that has a host; None for any other text."""
    try:
        parts = urlsplit(text)
        return parts if parts.scheme in ("http", "https") and parts.hostname else None
    except ValueError:
        return None


def tcp_port(text: str) -> int:
    """A TCP port from the text of an option.

    Raises:
        ArgumentTypeError: the text is not a port.
    """
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 65_535:  # noqa: PLR2004 - the range of TCP ports
        raise ArgumentTypeError(f"must be a port from 0 to 65535, got {text!r}")
    return value
