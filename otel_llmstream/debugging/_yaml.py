"""Loads YAML of others. Only plain values are made, and no small file can become a large value."""

from __future__ import annotations

from typing import Any

import yaml
from yaml import YAMLError

_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Safe):  # type: ignore[misc]
    """A safe loader without merge keys: a few lines with nested ones would become very many pairs."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge nothing."""


def load(data: bytes) -> Any:
    """The value of a document.

    Raises:
        YAMLError: it is no YAML.
        ValueError: a value of it is not what its form promises, such as a date.
        RecursionError: it is nested too deeply.
    """
    return yaml.load(data, Loader=_Loader)  # noqa: S506 - a safe loader


__all__ = ["YAMLError", "load"]
