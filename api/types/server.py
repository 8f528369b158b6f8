"""Bodies of /1.0 and its server configuration (spec/rest.md 2)."""

from typing import Any

import msgspec


class ServerPut(msgspec.Struct):
    """PUT and PATCH of /1.0. `config` maps keys to texts; None is "no change" for PATCH."""

    config: dict[str, Any] | None = None
