"""`?filter=` of lists (api_filtering): `FIELD eq VALUE and not FIELD ne "VALUE" or ...`.

Owns the little language, read from left to right without precedence as LXD does; refuses to know the objects: a field
is a path of names into what the list would show."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from lxdnode.node.errors import Invalid


@dataclass(frozen=True)
class _Clause:
    joined_by_or: bool
    negated: bool
    field: str
    value: str

    def holds(self, shown: Any) -> bool:
        return _equals(_find(shown, self.field), self.value) != self.negated


def parse(text: str) -> Callable[[Any], bool]:
    """A predicate over rendered objects (structs or maps); an empty filter lets everything pass.

    Invalid when the text is no filter."""
    clauses = _clauses(_words(text))

    def matches(rendered: Any) -> bool:
        shown = msgspec.to_builtins(rendered)
        result = True
        for clause in clauses:
            holds = clause.holds(shown)
            result = result or holds if clause.joined_by_or else result and holds
        return result

    return matches


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise Invalid(f"Invalid filter '{text}': {error}") from None


def _clauses(words: list[str]) -> list[_Clause]:
    clauses: list[_Clause] = []
    rest = list(words)
    while rest:
        joined_by_or = False
        if clauses:
            joined_by_or = _take(rest, "and", "or") == "or"
        negated = rest[:1] == ["not"]
        if negated:
            rest.pop(0)
        field = _take(rest)
        negated ^= _take(rest, "eq", "ne") == "ne"
        clauses.append(_Clause(joined_by_or, negated, field, _take(rest)))
    return clauses


def _take(rest: list[str], *allowed: str) -> str:
    """The next word, which must be one of `allowed` if there are any."""
    word = rest.pop(0) if rest else ""
    if not word or (allowed and word not in allowed):
        wanted = " or ".join(allowed) or "a field or a value"
        raise Invalid(f"Invalid filter: expected {wanted}, found '{word}'")
    return word


def _find(shown: Any, path: str) -> Any:
    """The value under a path of names. The names of keys hold dots themselves: the longest one that exists counts."""
    if not path:
        return shown
    if not isinstance(shown, Mapping):
        return None
    names = path.split(".")
    for end in range(len(names), 0, -1):
        name = ".".join(names[:end])
        if name in shown:
            return _find(shown[name], ".".join(names[end:]))
    return None


def _equals(found: Any, value: str) -> bool:
    """Texts are compared without case; of a list any item will do."""
    if isinstance(found, list):
        return any(_equals(item, value) for item in found)
    if isinstance(found, bool):
        return value.lower() == str(found).lower()
    return found is not None and str(found).lower() == value.lower()
