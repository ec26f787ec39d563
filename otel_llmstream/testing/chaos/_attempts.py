"""Numbers the attempts of a call. In: requests. Out: the attempt's number, stated by the client or counted here."""

import threading
from collections import OrderedDict

from ._request import Request

# Clients choose the keys. The cap keeps the memory bounded: the oldest keys are removed first.
_MAX_KEYS = 10_000


class Attempts:
    """Counts the attempts of clients that do not send the number of the attempt."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def number(self, request: Request, model: str, in_round: int) -> int:
        """The number of an attempt, from 0.

        It is the value of the ``x-stainless-retry-count`` header if the request has one. Otherwise the server counts
        the requests per ``x-chaos-key`` header, or per model without that header. The count restarts at 0 after
        ``in_round`` requests.
        """
        stated = retry_count(request)
        return self._count(request.headers.get("x-chaos-key", model)) % in_round if stated is None else stated

    def _count(self, key: str) -> int:
        with self._lock:
            count = self._counts.pop(key, 0)
            self._counts[key] = count + 1
            while len(self._counts) > _MAX_KEYS:
                self._counts.popitem(last=False)
            return count


def retry_count(request: Request) -> int | None:
    """The number of the attempt that the client states; None if it states none."""
    stated = request.headers.get("x-stainless-retry-count", "")
    return int(stated) if stated.isascii() and stated.isdigit() else None
