"""Snowflake Cortex's own endpoint, `/api/v2/cortex/inference:complete`: OpenAI's chat frames without any end.

There is neither a finish reason nor `[DONE]`. Legal end: the body's, after a whole frame. The OpenAI-compatible
endpoint of Cortex has `[DONE]`, and no finish reason either. That one is OpenAI's dialect.
"""

from __future__ import annotations

from ..core.events import NO_TERMINATOR
from .openai_chat import ChatDialect


class SnowflakeCortex(ChatDialect):
    """Chat frames. Each one has token counts, and the last ones count."""

    __slots__ = ()

    name = "snowflake.cortex"
    paths = ("/cortex/inference:complete", "/cortex/inference/complete")
    provider = "snowflake"
    preface = (NO_TERMINATOR,)
    terminator = None
