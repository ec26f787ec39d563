"""What is a URL of the web, and what a TCP port, for every command that takes one."""

from __future__ import annotations

from argparse import ArgumentTypeError
from urllib.parse import SplitResult, urlsplit


def web_url(text: str) -> SplitResult | None:
    """The parts of an http or https URL with a host; None for anything else."""
    try:
        parts = urlsplit(text)
        return parts if parts.scheme in ("http", "https") and parts.hostname else None
    except ValueError:
        return None


def tcp_port(text: str) -> int:
    """A port as an option gives it.

    Raises:
        ArgumentTypeError: it is none.
    """
    value = int(text)
    if not 0 <= value <= 65_535:  # noqa: PLR2004 - TCP's
        raise ArgumentTypeError(f"must be from 0 to 65535, got {text}")
    return value
