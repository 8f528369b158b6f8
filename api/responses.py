"""The answers of the API: LXD's envelopes, and which error has which code.

Owns every HTTP status that a route can give (spec/rest.md 1.3, 1.4); refuses to know routes."""

from collections.abc import AsyncIterable, Mapping
from typing import Any, Protocol

import msgspec
import structlog
from quart.wrappers import Response
from quart.wrappers.response import DataBody
from quart_trio.wrappers import TrioResponse

from lxdnode.node import errors

log = structlog.get_logger(__name__)

JSON = "application/json"
_SYNC = {
    "type": "sync",
    "status": "Success",
    "status_code": 200,
    "operation": "",
    "error_code": 0,
    "error": "",
}
_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (errors.Invalid, 400),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.AlreadyExists, 409),
    (errors.PreconditionFailed, 412),
    (errors.TooLarge, 413),
    (errors.NotImplementedHere, 501),
    (errors.Unavailable, 503),
)
encoder = msgspec.json.Encoder()


class Rendered(Protocol):
    """What `operation` needs of an operation (`node/operations.py`)."""

    @property
    def id(self) -> str: ...

    def render(self) -> Any: ...


def sync(metadata: Any, etag: str | None = None) -> Response:
    """200 with an object or a list; `metadata` is anything that msgspec encodes, also `msgspec.Raw` bytes."""
    response = TrioResponse(encoder.encode(_SYNC | {"metadata": metadata}), 200, content_type=JSON)
    if etag is not None:
        response.headers["ETag"] = etag
    return response


def empty() -> Response:
    """200 with `metadata: {}`: done, and nothing to show."""
    return sync({})


def created(location: str) -> Response:
    """201 for what was made or renamed; `location` is a path that starts with `/1.0/`. status_code stays 200."""
    response = TrioResponse(encoder.encode(_SYNC | {"metadata": None}), 201, content_type=JSON)
    response.headers["Location"] = location
    return response


def operation(op: Rendered) -> Response:
    """202: the work was started, and `op` shows how it goes."""
    url = f"/1.0/operations/{op.id}"
    body = {
        "type": "async",
        "status": "Operation created",
        "status_code": 100,
        "operation": url,
        "error_code": 0,
        "error": "",
        "metadata": op.render(),
    }
    response = TrioResponse(encoder.encode(body), 202, content_type=JSON)
    response.headers["Location"] = url
    return response


def raw(
    body: bytes | AsyncIterable[bytes],
    headers: Mapping[str, str] | None = None,
    length: int | None = None,
    content_type: str = "application/octet-stream",
) -> Response:
    """200 without an envelope: a file or a log. A body in chunks is sent as they come, with `length` as its
    Content-Length when it is known, else chunked."""
    response = TrioResponse(body, 200, headers=dict(headers or {}), content_type=content_type)
    if length is not None:
        response.headers["Content-Length"] = str(length)
    return response


def error(code: int, words: str) -> Response:
    """An error envelope; clients show `words`. The three empty fields are LXD 5.0.2's (spec/rest.md 1.3 has none):
    today's clients decode one struct for every answer."""
    body = {"type": "error", "status": "", "status_code": 0, "operation": "", "error_code": code, "error": words}
    response = TrioResponse(encoder.encode(body | {"metadata": None}), code, content_type=JSON)
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def mark_stale(response: Response, index: int) -> Response:
    """The same answer, saying that it shows the state at `index`, which the cluster did not confirm (DESIGN.md 3.6)."""
    response.headers["X-LXD-Node-Stale"] = str(index)
    body = response.response
    if isinstance(body, DataBody) and response.content_type == JSON and body.data.endswith(b"}"):
        response.set_data(body.data[:-1] + b',"stale":%d}' % index)
    return response


def failure(exception: Exception, request: str) -> Response:
    """The answer to a request whose handler raised. What the node did not raise itself is a fault of ours, or of the
    host: it is logged with its traceback, of which the client sees the words only."""
    found = errors.cause(exception)
    if isinstance(found, errors.AlreadyDone):
        return empty()
    code = code_of(found)
    if code == 500 and not isinstance(found, errors.NodeError):
        log.error("request failed", request=request, exc_info=exception)
    return error(code, words_of(found))


def code_of(exception: BaseException) -> int:
    """The HTTP code of an error; 500 for everything that has none of its own."""
    return next((code for kind, code in _CODES if isinstance(exception, kind)), 500)


def words_of(exception: BaseException) -> str:
    """What a client reads of an error: its words, or its name when it has none."""
    return str(exception) or type(exception).__name__
