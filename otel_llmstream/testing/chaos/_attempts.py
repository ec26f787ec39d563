"""Which attempt is this? In: requests. Out: the number of the attempt, as the client says or as the server counts."""

import threading
from collections import OrderedDict

from ._request import Request

# Keys come from clients: forget the oldest rather than grow for ever.
_MAX_KEYS = 10_000


class Attempts:
    """Counts the attempts of each client that does not say which attempt it makes."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def number(self, request: Request, model: str, in_round: int) -> int:
        """The number of an attempt, from 0.

        It is the ``x-stainless-retry-count`` header if there is one, else a count per ``x-chaos-key`` header or, for
        want of that, per model string; the count begins again after ``in_round``.
        """
        told = retry_count(request)
        return self._count(request.headers.get("x-chaos-key", model)) % in_round if told is None else told

    def _count(self, key: str) -> int:
        with self._lock:
            count = self._counts.pop(key, 0)
            self._counts[key] = count + 1
            while len(self._counts) > _MAX_KEYS:
                self._counts.popitem(last=False)
            return count


def retry_count(request: Request) -> int | None:
    """The number of the attempt as the client says it."""
    told = request.headers.get("x-stainless-retry-count", "")
    return int(told) if told.isascii() and told.isdigit() else None
