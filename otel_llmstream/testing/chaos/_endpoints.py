"""The endpoints that are served. In: the target of a request line. Out: the endpoint it means, or None."""

from enum import StrEnum


class Endpoint(StrEnum):
    """A streaming endpoint; the value is the end of its path."""

    CHAT = "chat/completions"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    MESSAGES = "messages"

    @classmethod
    def of(cls, target: str) -> "Endpoint | None":
        """The endpoint of a request target such as ``/v1/messages?beta=true``."""
        path = target.partition("?")[0]
        # In order of definition, so that "chat/completions" is found before "completions".
        return next((endpoint for endpoint in cls if path.endswith(f"/{endpoint.value}")), None)
