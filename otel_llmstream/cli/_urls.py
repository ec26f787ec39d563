"""What is a URL of the web, for every command that takes one."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit


def web_url(text: str) -> SplitResult | None:
    """The parts of an http or https URL with a host; None for anything else."""
    try:
        parts = urlsplit(text)
        return parts if parts.scheme in ("http", "https") and parts.hostname else None
    except ValueError:
        return None
