"""What has usually happened if a stream failed, and what usually helps, for any `error.type`."""

from __future__ import annotations

from typing import Final

from .. import semconv
from ._proxy_fixes import STATUSES

_ERROR_TYPES: Final = {it.name: (it.cause, it.remedy) for it in semconv.ERROR_TYPES}
_PROVIDERS_OWN: Final = (
    "The provider reported an error in the stream.",
    "Look at the error type and at the message in the log line.",
)


def explained(error_type: str) -> tuple[str, str]:
    """Cause and remedy. A word that is neither ours nor a status is the provider's own code."""
    return _ERROR_TYPES.get(error_type) or STATUSES.get(error_type) or _PROVIDERS_OWN
