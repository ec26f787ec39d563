"""What a dialect is, and what all dialects share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from .. import semconv
from ..core.events import Event, Finish, InBandError
from ..core.summary import LLMRequest
from ..wire import Frame
from ._json import entry, text
from ._request import RequestInfo


class Dialect(Protocol):
    """Reads the frames of one stream. One object per stream; may keep what later frames need to be understood.

    A dialect never raises on what a server sends: what does not parse is `MALFORMED`, what is not known is nothing.
    Payloads are decoded into structs of the few fields that matter; a field whose type differs among providers is
    `Any`, so that a surprise in one field never hides the others.

    Attributes:
        name: as in `llmstream.dialect`.
        paths: ends of the paths that it serves; `{}` stands for one segment of any name.
            `matches_request` is called for no other path.
    """

    name: ClassVar[str]
    paths: ClassVar[tuple[str, ...]]

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """The request, where its path and body say that a stream of this dialect will answer it."""
        ...

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """Whether a first frame that answers an unknown request is of this dialect."""
        ...

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request, as this dialect reads it."""
        ...

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says."""
        ...

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """The short cut for many frames at once: whether `read` would answer `ONE_CHUNK` to each payload.

        Beside it, in the dialects of `COUNTING`, what the last payload says too. All frames are of the type of the
        one that was read last. Keeps nothing. False is always a right answer, and costs only time.
        """
        ...


def in_band_error(error: Any) -> InBandError:
    """An error as an event, whatever its shape: an object, a string, a number.

    A code that is a word says more than the type; a type says more than a number that repeats an HTTP status.
    """
    code, kind = text(entry(error, "code")), text(entry(error, "type"))
    word = code if code and not code.isdigit() else kind or code
    return InBandError(word, text(entry(error, "message")) or text(error))


def finish(index: int, reason: str, words: Mapping[str, str]) -> Finish:
    """A finish reason with its normal form; a word that is not known is `other`."""
    return Finish(index, reason, words.get(reason.lower(), semconv.OTHER_REASON))
