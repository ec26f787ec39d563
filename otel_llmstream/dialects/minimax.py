"""MiniMax's own endpoint, `/v1/text/chatcompletion_v2`: OpenAI's chat frames, with errors of its own.

Legal end: a finish reason, or `[DONE]`, which not all versions send. The last frame repeats the whole answer as
`choices[].message`, which is no output. An error is `"base_resp": {"status_code": 1002, "status_msg": "..."}` in a
frame of an answer with status 200. It is read in all dialects, because MiniMax also has OpenAI's and Anthropic's
endpoints.
"""

from __future__ import annotations

from .openai_chat import ChatDialect


class MiniMaxChat(ChatDialect):
    """Chat frames."""

    __slots__ = ()

    name = "minimax.chat"
    paths = ("/text/chatcompletion_v2",)
    provider = "minimax"
