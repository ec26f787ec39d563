"""YAML for people: keys in their original order, and queries of several lines as block text."""

from __future__ import annotations

from typing import Any

try:
    import yaml
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        "writing rules needs PyYAML: pip install 'otel-llmstream[monitoring]'", name=_error.name
    ) from _error


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the base class's signature
        """Write repeated values in full, because aliases are hard to read."""
        return True


def _text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Dumper.add_representer(str, _text)


def dump(document: Any, *comment: str) -> str:
    """A document as YAML, below comment lines."""
    head = "".join(f"# {line}\n" for line in comment)
    return head + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)
