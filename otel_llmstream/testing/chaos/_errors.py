"""The exception for requests that the server rejects before it begins a reply. It has an HTTP status."""


class Rejection(Exception):  # noqa: N818 - it becomes an HTTP answer and is not a failure of the server
    """A request that gets an HTTP error with the provider's JSON envelope.

    Attributes:
        status: The HTTP status code of the answer.
        message: What is wrong with the request.
        param: The name of the wrong field of the request; None if there is no single one.
    """

    def __init__(self, status: int, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
