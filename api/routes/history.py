"""/internal/history: what was changed, by whom and from what to what, for the lxd-node command; and for members."""

from quart.wrappers import Response

from lxdnode.api.responses import raw, sync
from lxdnode.api.route import Call, route
from lxdnode.node.errors import Forbidden, Invalid


@route("GET", "/internal/history")
async def show_history(call: Call) -> Response:
    """{entries, gaps} (`node/history/`): rows as `since`, `until`, `object`, `author` and `limit` select them."""
    await call.view()
    return sync(await call.node.history.find(call.query))


@route("GET", "/internal/history/chunks")
async def show_chunks(call: Call) -> Response:
    """Behind index `after`, up to `until`, as the files have it, secrets included: for members that missed it."""
    if call.caller.member is None:
        raise Forbidden()
    after, until = call.query.get("after", ""), call.query.get("until", "")
    if not (after.isdecimal() and until.isdecimal()):
        raise Invalid("after and until must be indexes")
    return raw(await call.node.history.chunks(int(after), int(until)))
