"""One rendering: its output, its variables, and the limits on both.

Owns what values look like and which are true; refuses to know syntax."""

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

LARGEST = 1 << 20
"""Characters of the output, and of any value on the way."""
_STEPS = 100_000
"""Tags, variables and thousands of characters that are looked at: a loop in a loop in a loop ends here."""
_INTEGERS = range(-(2**63), 2**63)

Evaluate = Callable[["Rendering"], Any]
"""An expression: its value in a rendering."""
Node = Callable[["Rendering"], None]
"""A piece of a template: writes what it renders to."""


class TemplateError(Exception):
    """What a template cannot be rendered for."""


class Rendering:
    """`scope`: the variables, the innermost first."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self.scope: ChainMap[str, Any] = ChainMap({}, dict(variables))
        self._parts: list[str] = []
        self._size = 0
        self._steps = 0

    @property
    def text(self) -> str:
        """What was written so far."""
        return "".join(self._parts)

    def write(self, text: str) -> None:
        """Adds to the output."""
        self._size += len(text)
        if self._size > LARGEST:
            raise TemplateError(f"it renders to more than {LARGEST} characters")
        self._parts.append(text)

    def step(self, value: Any = None) -> None:
        """Counts one more tag or variable, and the size of a value that is worked on."""
        self._steps += 1 + (len(value) // 1000 if isinstance(value, str | list | Mapping) else 0)
        if self._steps > _STEPS:
            raise TemplateError(f"it takes more than {_STEPS} steps")

    @contextmanager
    def inner(self, **variables: Any) -> Iterator[None]:
        """A scope of its own, which ends with the block."""
        outer = self.scope
        self.scope = outer.new_child(variables)
        try:
            yield
        finally:
            self.scope = outer

    def capture(self, body: Node) -> str:
        """What a piece renders to, which is not written."""
        outer, self._parts = self._parts, []
        try:
            body(self)
            return self.text
        finally:
            self._parts = outer


def shown(value: Any) -> str:
    """A value in the output, as Go prints it."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:f}"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{shown(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(shown, value)) + "]"
    return "" if callable(value) else str(value)


def number(value: Any) -> int | float:
    """A value as a number; what is none is 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0
    try:
        return float(value) if isinstance(value, float) or "." in str(value) else int(value)
    except ValueError:
        return 0


def items(value: Any) -> Sequence[Any]:
    """What a loop goes through: the elements of a list, the keys of a map in order, the characters of a text."""
    return sorted(value) if isinstance(value, Mapping) else value if isinstance(value, list | str) else ()


def limited(value: Any) -> Any:
    """A value that is not too large. TemplateError."""
    if isinstance(value, int) and value not in _INTEGERS:
        raise TemplateError("a number is too large")
    if isinstance(value, str | list) and len(value) > LARGEST:
        raise TemplateError(f"a value has more than {LARGEST} characters")
    return value
