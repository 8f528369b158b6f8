"""ETags: which fields of an object are hashed, a client finds out by comparing (spec/rest.md 1.9)."""

import hashlib
from typing import Any

import msgspec


def etag_of(value: Any) -> str:
    """Lower-case hex SHA-256 of the compact JSON text of `value`, its map keys sorted, with a newline at the end."""
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic") + b"\n").hexdigest()
