"""What helps a person with one stream: `inspect` judges a recorded body and shows where it broke.

This folder is sans-IO. It gets bytes and gives records and text. The command reads the files.
"""

from __future__ import annotations

from .formats import recordings
from .inspection import Inspection, inspect
from .recording import MAX_INPUT, Recording, UnusableError
from .report import as_dict, as_text

__all__ = ["MAX_INPUT", "Inspection", "Recording", "UnusableError", "as_dict", "as_text", "inspect", "recordings"]
