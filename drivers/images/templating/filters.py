"""The filters of templates, by name: functions of a value and of the argument behind the colon (None without one).

Owns what each makes; refuses those that ask for time, chance or the network."""

import html
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote_plus

from lxdnode.drivers.images.templating.rendering import LARGEST, TemplateError, items, number, shown

_FORMAT = re.compile(r"[^%]*%[-+ 0#]*\d{0,4}(\.\d{1,4})?[sdfxXov][^%]*")


def _add(value: Any, other: Any) -> Any:
    if isinstance(value, int | float) and isinstance(other, int | float):
        return value + other
    return shown(value) + shown(other)


def _join(value: Any, between: Any) -> str:
    parts, text = [shown(one) for one in items(value)], shown(between)
    if sum(map(len, parts)) + len(text) * len(parts) > LARGEST:
        raise TemplateError(f"a value has more than {LARGEST} characters")
    return text.join(parts)


def _slice(value: Any, bounds: Any) -> Any:
    first, colon, last = shown(bounds).partition(":")
    if not colon:
        raise TemplateError("slice needs FROM:TO")
    return items(value)[int(number(first)) : int(number(last)) if last else None]


def _truncated(value: Any, most: Any) -> str:
    text, limit = shown(value), int(number(most))
    if len(text) <= limit:
        return text
    return text[: limit - 3] + "..." if limit > 3 else text[:limit]


def _few_words(value: Any, most: Any) -> str:
    words, limit = shown(value).split(), int(number(most))
    return " ".join(words) if len(words) <= limit else " ".join([*words[:limit], "..."])


def _rounded(value: Any, digits: Any) -> str:
    places = int(number(digits)) if digits is not None else -1
    if abs(places) > 100:
        raise TemplateError("floatformat takes at most 100 digits")
    found = float(number(value))
    return f"{found:.0f}" if places < 0 and found == int(found) else f"{found:.{abs(places)}f}"


def _formatted(value: Any, form: Any) -> str:
    text = shown(form)
    if not _FORMAT.fullmatch(text):
        raise TemplateError(f"stringformat does not know {text!r}")
    try:
        return str(re.sub("v(?=[^%]*$)", "s", text) % value)
    except (TypeError, ValueError):
        raise TemplateError(f"stringformat: {text!r} does not fit its value") from None


def _yes_or_no(value: Any, words: Any) -> str:
    found = (shown(words) or "yes,no,maybe").split(",")
    if len(found) not in (2, 3):
        raise TemplateError("yesno takes two or three words")
    return found[-1] if value is None else found[0] if value else found[1]


def _plural(value: Any, endings: Any) -> str:
    found = (shown(endings) if endings is not None else "s").split(",")
    return found[-1] if number(value) != 1 else found[0] if len(found) > 1 else ""


def _padded(pad: Callable[[str, int], str]) -> Callable[[Any, Any], str]:
    def work(value: Any, width: Any) -> str:
        if number(width) > LARGEST:
            raise TemplateError(f"a value has more than {LARGEST} characters")
        return pad(shown(value), int(number(width)))

    return work


def _divides(value: Any, by: Any) -> bool:
    return bool(number(by)) and number(value) % number(by) == 0


def _first(value: Any, _: Any) -> Any:
    return next(iter(items(value)), "")


def _last(value: Any, _: Any) -> Any:
    return next(reversed(items(value)), "")


def _on_text(work: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    return lambda value, _: work(shown(value))


def _numbered(text: str) -> str:
    return "\n".join(f"{number}. {line}" for number, line in enumerate(text.split("\n"), 1))


def _length(value: Any, _: Any) -> int:
    return len(value) if isinstance(value, Mapping | str | list) else 0


FILTERS: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": _add,
    "addslashes": _on_text(lambda text: re.sub(r"([\\'\"])", r"\\\1", text)),
    "capfirst": _on_text(lambda text: text[:1].upper() + text[1:]),
    "center": _padded(str.center),
    "cut": lambda value, what: shown(value).replace(shown(what), ""),
    "default": lambda value, other: value if value else other,
    "default_if_none": lambda value, other: other if value is None else value,
    "divisibleby": _divides,
    "escape": _on_text(lambda text: html.escape(text).replace("&#x27;", "&#39;")),
    "first": _first,
    "float": lambda value, _: float(number(value)),
    "floatformat": _rounded,
    "integer": lambda value, _: int(number(value)),
    "join": _join,
    "last": _last,
    "length": _length,
    "length_is": lambda value, size: _length(value, None) == number(size),
    "linebreaksbr": _on_text(lambda text: text.replace("\n", "<br />")),
    "linenumbers": _on_text(_numbered),
    "ljust": _padded(str.ljust),
    "lower": _on_text(str.lower),
    "make_list": _on_text(list),
    "pluralize": _plural,
    "rjust": _padded(str.rjust),
    "safe": lambda value, _: value,
    "slice": _slice,
    "split": lambda value, by: shown(value).split(shown(by)) if by else list(shown(value)),
    "stringformat": _formatted,
    "striptags": _on_text(lambda text: re.sub(r"<[^<>]*>", "", text).strip()),
    "title": _on_text(lambda text: " ".join(word[:1].upper() + word[1:].lower() for word in text.split(" "))),
    "truncatechars": _truncated,
    "truncatewords": _few_words,
    "upper": _on_text(str.upper),
    "urlencode": _on_text(quote_plus),
    "wordcount": _on_text(lambda text: len(text.split())),
    "yesno": _yes_or_no,
}
