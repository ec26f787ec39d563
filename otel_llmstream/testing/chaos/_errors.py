"""What the server refuses, said before a reply is begun. Out: one exception that carries its HTTP status."""


class Rejection(Exception):  # noqa: N818 - it becomes an HTTP answer, it is no error of the server
    """A request that gets an HTTP error with the provider's JSON envelope.

    Attributes:
        status: The HTTP status code of the answer.
        message: What is wrong, for the reader of the answer.
        param: The name of the wrong field of the request, if it is one field.
    """

    def __init__(self, status: int, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
