"""One test for all of a kind: it is a loop, and its error message says which one it was about."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def about(*what: object) -> Iterator[None]:
    """An error inside the block is reported with what it is about."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"about: {', '.join(map(str, what))}")
        raise
