"""Rows of the error tables of the specification: a request, and how it is refused.

Owns what a row is and how it is asked; refuses to know any rows (`tests/cluster/test_refusals_*.py` have them)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.harness.daemons import Daemon

OPERATION = 202
"""The code of a row whose words are the `err` of an operation."""
CONTAINERS = "/1.0/containers"


@dataclass(frozen=True)
class Row:
    """A request and its refusal: an HTTP code with an error envelope, or `OPERATION`. `...` in `words` stands
    for any text. `@NAME` in path, body and words stands for what a module calls NAME."""

    method: str
    path: str
    body: Any
    code: int
    words: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def check(self, server: Daemon, names: Mapping[str, str]) -> None:
        """Asks a server, and compares code and words letter by letter."""
        path, words, body = self.path, self.words, self.body
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body)
        for name, value in names.items():
            path, words = path.replace(f"@{name}", value), words.replace(f"@{name}", value)
            body = body.replace(f"@{name}", value) if isinstance(body, str) else body
        data = body.encode() if isinstance(body, str) else body
        status, headers, answer = server.request(self.method, path, data, dict(self.headers))
        envelope = json.loads(answer)
        if status == OPERATION:
            done = server.get(f"{headers['location']}/wait")
            assert done["status_code"] == 400, done
            said = done["err"]
        else:
            assert (envelope["type"], envelope["error_code"]) == ("error", status), envelope
            said = envelope["error"]
        beginning, dots, end = words.partition("...")
        is_said = said.startswith(beginning) and said.endswith(end) if dots else said == words
        assert is_said and status == self.code, f"{status} {said}"


def rows(*table: Row) -> pytest.MarkDecorator:
    """A test for each row, named after what is asked and refused."""
    return pytest.mark.parametrize("row", table, ids=lambda row: f"{row.method} {row.path} {row.words}"[:110])
