"""Expressions of templates: `a.b|filter:"x" == 1 and not c`.

Owns their syntax and what operators do; each becomes a function of the rendering."""

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from lxdnode.drivers.images.templating.filters import FILTERS
from lxdnode.drivers.images.templating.rendering import Evaluate, Rendering, TemplateError, items, limited, number

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<number>\d+(?:\.\d+)?)|(?P<name>[A-Za-z_]\w*)"""
    r"""|(?P<symbol>==|!=|<>|<=|>=|&&|\|\||[-+*/%<>|:,.()!=])|(?P<end>\Z))"""
)
_WORDS = {"true": True, "false": False, "nil": None, "none": None}
_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": lambda a, b: number(a) < number(b),
    ">": lambda a, b: number(a) > number(b),
    "<=": lambda a, b: number(a) <= number(b),
    ">=": lambda a, b: number(a) >= number(b),
    "in": lambda a, b: a in b if isinstance(a, str) and isinstance(b, str | Mapping | list) else a in items(b),
}
_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": math.fmod,
}


class Tokens:
    """The words of one tag, read from left to right. TemplateError for what is none."""

    def __init__(self, text: str) -> None:
        self._words: list[tuple[str, str]] = []
        place = 0
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise TemplateError(f"{text[place:].strip()[:20]!r} is not understood")
            place = match.end()
            if match.lastgroup and match.lastgroup != "end":
                self._words.append((match.lastgroup, match[match.lastgroup]))
        self._place = 0

    @property
    def next(self) -> tuple[str, str]:
        """(kind, word) of the next one; ("end", "") behind the last."""
        return self._words[self._place] if self._place < len(self._words) else ("end", "")

    @property
    def is_assignment(self) -> bool:
        """Whether `NAME =` comes next."""
        following = self._words[self._place : self._place + 2]
        return [kind for kind, _ in following] == ["name", "symbol"] and following[1][1] == "="

    def take(self, *words: str) -> str:
        """Reads the next word when it is one of these (no text is); else "" and nothing is read."""
        kind, word = self.next
        if kind == "text" or word not in words:
            return ""
        self._place += 1
        return word

    def expect(self, word: str) -> None:
        """Reads a word that must come."""
        if not self.take(word):
            raise TemplateError(f"{word!r} is missing before {self.next[1]!r}")

    def take_any(self, kind: str) -> str:
        """Reads a word of a kind that must come."""
        found, word = self.next
        if found != kind:
            raise TemplateError(f"a {kind} is missing before {word!r}")
        self._place += 1
        return word

    def end(self) -> None:
        """There must be no more."""
        if self.next[0] != "end":
            raise TemplateError(f"{self.next[1]!r} is too much")


def expression(tokens: Tokens) -> Evaluate:
    """The longest expression that comes next. As in Go's, `and` and `or` bind alike, from right to left."""
    left = _comparison(tokens)
    word = tokens.take("and", "or", "&&", "||")
    if not word:
        return left
    right = expression(tokens)
    if word in ("and", "&&"):
        return lambda r: bool(left(r)) and bool(right(r))
    return lambda r: bool(left(r)) or bool(right(r))


def _comparison(tokens: Tokens) -> Evaluate:
    left = _sum(tokens)
    word = tokens.take(*_COMPARISONS)
    if not word:
        return left
    compare, right = _COMPARISONS[word], _sum(tokens)
    return lambda r: compare(left(r), right(r))


def _sum(tokens: Tokens) -> Evaluate:
    sign = tokens.take("not", "!", "-", "+")
    value = _product(tokens)
    if sign in ("not", "!"):
        return _negation(value)
    if sign == "-":
        value = _operation("-", lambda r: 0, value)
    while word := tokens.take("+", "-"):
        value = _operation(word, value, _product(tokens))
    return value


def _negation(value: Evaluate) -> Evaluate:
    return lambda r: not value(r)


def _product(tokens: Tokens) -> Evaluate:
    value = _factor(tokens)
    while word := tokens.take("*", "/", "%"):
        value = _operation(word, value, _factor(tokens))
    return value


def _operation(word: str, left: Evaluate, right: Evaluate) -> Evaluate:
    return lambda r: _calculate(word, left(r), right(r))


def _calculate(word: str, a: Any, b: Any) -> Any:
    """Integers stay such, as Go's: 9 / 2 is 4. Texts are joined by `+`."""
    if word == "+" and isinstance(a, str) and isinstance(b, str):
        return limited(a + b)
    x, y = number(a), number(b)
    if word in "/%" and not y:
        raise TemplateError("division by zero")
    if word in "/%" and isinstance(x, int) and isinstance(y, int):
        whole = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        return whole if word == "/" else x - y * whole
    return limited(_ARITHMETIC[word](x, y))


def _factor(tokens: Tokens) -> Evaluate:
    if tokens.take("("):
        value = expression(tokens)
        tokens.expect(")")
    else:
        value = operand(tokens)
    return filtered(tokens, value)


def filtered(tokens: Tokens, value: Evaluate) -> Evaluate:
    """A value with the filters that follow: `|upper`, `|default:"x"`."""
    while tokens.take("|"):
        value = apply_filter(tokens, value)
    return value


def apply_filter(tokens: Tokens, value: Evaluate) -> Evaluate:
    """A value through the filter that comes next."""
    name = tokens.take_any("name")
    work = FILTERS.get(name)
    if work is None:
        raise TemplateError(f"filter {name!r} is not known")
    argument = operand(tokens) if tokens.take(":") else _nothing

    def run(r: Rendering) -> Any:
        given = value(r)
        r.step(given)
        return limited(work(given, argument(r)))

    return run


def _nothing(_rendering: Rendering) -> None:
    return None


def operand(tokens: Tokens) -> Evaluate:
    """A constant, or a variable with what belongs to it: `a.b.0`, `f(x, y)`."""
    kind, word = tokens.next
    if kind == "text":
        tokens.take_any("text")
        constant: Any = re.sub(r"\\(.)", r"\1", word[1:-1])
    elif kind == "number":
        tokens.take_any("number")
        constant = limited(number(word))
    elif word in _WORDS:
        tokens.take_any("name")
        constant = _WORDS[word]
    else:
        return _variable(tokens)
    return lambda r: constant


def _variable(tokens: Tokens) -> Evaluate:
    value = _named(tokens.take_any("name"))
    while word := tokens.take(".", "("):
        value = _call(value, _arguments(tokens)) if word == "(" else _part(value, _key(tokens))
    return value


def _named(name: str) -> Evaluate:
    return lambda r: r.scope.get(name)


def _key(tokens: Tokens) -> str:
    return tokens.take_any("number" if tokens.next[0] == "number" else "name")


def _part(value: Evaluate, key: str) -> Evaluate:
    """An entry of a map or a list: never an attribute."""

    def find(r: Rendering) -> Any:
        found = value(r)
        if isinstance(found, Mapping):
            return found.get(key)
        return found[int(key)] if isinstance(found, list) and key.isdecimal() and int(key) < len(found) else None

    return find


def _arguments(tokens: Tokens) -> list[Evaluate]:
    found: list[Evaluate] = []
    while not tokens.take(")"):
        if found:
            tokens.expect(",")
        found.append(expression(tokens))
    return found


def _call(value: Evaluate, arguments: list[Evaluate]) -> Evaluate:
    def call(r: Rendering) -> Any:
        function = value(r)
        if not callable(function):
            raise TemplateError("what is no function is called")
        r.step()
        try:
            return limited(function(*(argument(r) for argument in arguments)))
        except TypeError:
            raise TemplateError("a function is called with wrong arguments") from None

    return call
