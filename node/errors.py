"""The ways in which the node refuses or fails, as exceptions. HTTP codes are given in `api/responses.py` alone.

Every error names the object and what to do; where clients parse LXD's words, LXD's words are used."""

from collections.abc import Iterator
from contextlib import contextmanager


class NodeError(Exception):
    """An unexpected failure of the work that was asked for (500 over the API)."""


class Invalid(NodeError):
    """The request is wrong and would always be (400)."""


class Forbidden(NodeError):
    """The caller may not do this, or nobody may (403)."""

    def __init__(self, message: str = "not authorized") -> None:
        super().__init__(message)


class NotFound(NodeError):
    """The object does not exist (404)."""

    def __init__(self, message: str = "not found") -> None:
        super().__init__(message)


class AlreadyExists(NodeError):
    """The name is taken (409)."""

    def __init__(self, message: str = "already exists") -> None:
        super().__init__(message)


class PreconditionFailed(NodeError):
    """The object was changed since the caller read it (412)."""


class TooLarge(NodeError):
    """The request or the object it makes is larger than the store takes (413)."""


class NotImplementedHere(NodeError):
    """A known request that this server does not serve (501)."""

    def __init__(self, message: str = "not implemented") -> None:
        super().__init__(message)


class Unavailable(NodeError):
    """Not possible now: no quorum, a member that is away, a daemon that starts or stops (503)."""


class AlreadyDone(NodeError):
    """The change was committed before, under the id of transaction that its client gave: repeating it is a success."""


def cause(error: BaseException) -> BaseException:
    """The one error inside the groups of nurseries; of several, the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextmanager
def alone() -> Iterator[None]:
    """What a nursery in the block raises, without its group."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise cause(group) from None
