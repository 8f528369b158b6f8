"""The tags of templates: `{% if %}`, `{% for %}` and their like.

Owns how a text is cut into pieces and what each tag does; what stands in a tag are `expressions.py`'s."""

import re
from collections.abc import Callable, Mapping
from itertools import cycle
from typing import Any

from lxdnode.drivers.images.templating.expressions import Tokens, apply_filter, expression, filtered, operand
from lxdnode.drivers.images.templating.rendering import Evaluate, Node, Rendering, TemplateError, items, shown

_QUOTED = r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
_OPENING = re.compile(r"\{[{%#]")
_PIECES = {
    "{#": ("", re.compile(r"\{#([^\n]*?)#\}")),
    "{{": ("value", re.compile(rf"\{{\{{((?:{_QUOTED}|(?!\}}\}})[^\n\"'])*)\}}\}}")),
    "{%": ("tag", re.compile(rf"\{{%((?:{_QUOTED}|(?!%\}})[^\n\"'])*)%\}}")),
}
"""The kind of each piece but text, and its form, which matches in one way alone and so in linear time."""
_REFUSED = ("include", "extends", "import", "ssi", "block", "exec")
_LITERALS = {
    "openblock": "{%",
    "closeblock": "%}",
    "openvariable": "{{",
    "closevariable": "}}",
    "openbrace": "{",
    "closebrace": "}",
    "opencomment": "{#",
    "closecomment": "#}",
}


class _Source:
    """The pieces of a text, read from the first to the last: (kind, content) of text, value or tag."""

    def __init__(self, text: str) -> None:
        self._pieces: list[tuple[str, str]] = []
        place = 0
        while opening := _OPENING.search(text, place):
            kind, form = _PIECES[opening[0]]
            match = form.match(text, opening.start())
            if match is None:
                raise TemplateError(f"{text[opening.start() :][:20]!r} is not closed")
            self._pieces += [("text", text[place : opening.start()]), (kind, match[1])]
            place = match.end()
        self._pieces.append(("text", text[place:]))
        self._pieces = [piece for piece in reversed(self._pieces) if piece[0] and piece != ("text", "")]

    def body(self, *ends: str) -> tuple[Node, str, Tokens]:
        """The pieces up to a tag that is one of `ends` (or, without any, to the end): what they do, that tag, and the
        rest of its words."""
        nodes: list[Node] = []
        while self._pieces:
            kind, content = self._pieces.pop()
            if kind == "text":
                nodes.append(_text(content))
            elif kind == "value":
                nodes.append(_value(content))
            else:
                tokens = Tokens(content)
                name = tokens.take_any("name")
                if name in ends:
                    return _sequence(nodes), name, tokens
                nodes.append(self._tag(name, tokens))
        if ends:
            raise TemplateError(f"{ends[-1]!r} is missing")
        return _sequence(nodes), "", Tokens("")

    def _tag(self, name: str, tokens: Tokens) -> Node:
        if name in _REFUSED:
            raise TemplateError(f"tag {name!r} is not allowed")
        if name not in _TAGS:
            raise TemplateError(f"tag {name!r} is not known")
        node = _TAGS[name](self, tokens)
        tokens.end()
        return node

    def skip(self, end: str) -> None:
        """Passes over everything up to a tag."""
        while self._pieces:
            kind, content = self._pieces.pop()
            if kind == "tag" and content.strip() == end:
                return
        raise TemplateError(f"{end!r} is missing")


def parse(text: str) -> Node:
    """What a template does. TemplateError."""
    return _Source(text).body()[0]


def _sequence(nodes: list[Node]) -> Node:
    def run(r: Rendering) -> None:
        for node in nodes:
            r.step()
            node(r)

    return run


def _text(content: str) -> Node:
    return lambda r: r.write(content)


def _nothing(r: Rendering) -> None:
    return None


def _value(content: str) -> Node:
    tokens = Tokens(content)
    value = expression(tokens)
    tokens.end()
    return lambda r: r.write(shown(value(r)))


def _choice(source: _Source, condition: Evaluate, end: str) -> Node:
    """What follows when a condition holds, and what else does, up to a tag."""
    then, word, tokens = source.body("elif", "else", end)
    if word == "elif":
        otherwise = _if(source, tokens)
    elif word == "else":
        tokens.end()
        otherwise, _, tokens = source.body(end)
    else:
        otherwise = _nothing
    tokens.end()
    return lambda r: then(r) if condition(r) else otherwise(r)


def _if(source: _Source, tokens: Tokens) -> Node:
    condition = expression(tokens)
    tokens.end()
    return _choice(source, condition, "endif")


def _if_equal(wanted: bool) -> Callable[[_Source, Tokens], Node]:
    def parse(source: _Source, tokens: Tokens) -> Node:
        left, right = expression(tokens), expression(tokens)
        end = "endifequal" if wanted else "endifnotequal"
        return _choice(source, lambda r: (left(r) == right(r)) is wanted, end)

    return parse


def _for(source: _Source, tokens: Tokens) -> Node:
    key = tokens.take_any("name")
    value = tokens.take_any("name") if tokens.take(",") else ""
    tokens.expect("in")
    sequence = expression(tokens)
    is_reversed, is_sorted = bool(tokens.take("reversed")), bool(tokens.take("sorted"))
    body, word, _ = source.body("empty", "endfor")
    empty = source.body("endfor")[0] if word == "empty" else _nothing

    def run(r: Rendering) -> None:
        whole = sequence(r)
        found = sorted(items(whole), key=shown) if is_sorted else list(items(whole))
        for number, one in enumerate(reversed(found) if is_reversed else found):
            loop = _loop(number, len(found), r.scope.get("forloop"))
            pair = {value: whole.get(one) if isinstance(whole, Mapping) else None} if value else {}
            with r.inner(forloop=loop, **{key: one}, **pair):
                body(r)
        if not found:
            empty(r)

    return run


def _loop(number: int, count: int, parent: Any) -> dict[str, Any]:
    return {
        "Counter": number + 1,
        "Counter0": number,
        "Revcounter": count - number,
        "Revcounter0": count - number - 1,
        "First": number == 0,
        "Last": number == count - 1,
        "Parentloop": parent,
    }


def _set(source: _Source, tokens: Tokens) -> Node:
    name = tokens.take_any("name")
    tokens.expect("=")
    value = expression(tokens)

    def run(r: Rendering) -> None:
        r.scope[name] = value(r)

    return run


def _with(source: _Source, tokens: Tokens) -> Node:
    """`with a=1 b=2`, or the older `with 1 as a`."""
    pairs: dict[str, Evaluate] = {}
    while tokens.next[0] != "end":
        if tokens.is_assignment:
            name = tokens.take_any("name")
            tokens.expect("=")
            pairs[name] = expression(tokens)
        else:
            value = expression(tokens)
            tokens.expect("as")
            pairs[tokens.take_any("name")] = value
    body = source.body("endwith")[0]

    def run(r: Rendering) -> None:
        with r.inner(**{name: value(r) for name, value in pairs.items()}):
            body(r)

    return run


def _comment(source: _Source, tokens: Tokens) -> Node:
    source.skip("endcomment")
    return _nothing


def _autoescape(source: _Source, tokens: Tokens) -> Node:
    is_on = bool(tokens.take("on")) or not tokens.take("off")
    if is_on:
        raise TemplateError("autoescape is always off")
    return source.body("endautoescape")[0]


def _spaceless(source: _Source, tokens: Tokens) -> Node:
    body = source.body("endspaceless")[0]
    return lambda r: r.write(re.sub(r">\s+<", "><", r.capture(body).strip()))


def _filter(source: _Source, tokens: Tokens) -> Node:
    value = filtered(tokens, apply_filter(tokens, lambda r: r.scope[""]))
    body = source.body("endfilter")[0]

    def run(r: Rendering) -> None:
        with r.inner(**{"": r.capture(body)}):
            r.write(shown(value(r)))

    return run


def _first_of(source: _Source, tokens: Tokens) -> Node:
    values = _operands(tokens)
    return lambda r: r.write(shown(next((found for value in values if (found := value(r))), None)))


def _cycle(source: _Source, tokens: Tokens) -> Node:
    values = _operands(tokens)
    turns = cycle(values)
    return lambda r: r.write(shown(next(turns)(r)))


def _operands(tokens: Tokens) -> list[Evaluate]:
    found = [filtered(tokens, operand(tokens))]
    while tokens.next[0] != "end":
        found.append(filtered(tokens, operand(tokens)))
    return found


def _if_changed(source: _Source, tokens: Tokens) -> Node:
    body = source.body("endifchanged")[0]
    last = ""

    def run(r: Rendering) -> None:
        nonlocal last
        text = r.capture(body)
        if text != last:
            last = text
            r.write(text)

    return run


def _macro(source: _Source, tokens: Tokens) -> Node:
    name = tokens.take_any("name")
    parameters: list[str] = []
    tokens.expect("(")
    while not tokens.take(")"):
        if parameters:
            tokens.expect(",")
        parameters.append(tokens.take_any("name"))
    body = source.body("endmacro")[0]

    def run(r: Rendering) -> None:
        def call(*arguments: Any) -> str:
            if len(arguments) > len(parameters):
                raise TemplateError(f"macro {name!r} takes {len(parameters)} arguments")
            with r.inner(**dict(zip(parameters, arguments, strict=False))):
                return r.capture(body)

        r.scope[name] = call

    return run


def _template_tag(source: _Source, tokens: Tokens) -> Node:
    name = tokens.take_any("name")
    if name not in _LITERALS:
        raise TemplateError(f"templatetag {name!r} is not known")
    return _text(_LITERALS[name])


_TAGS: Mapping[str, Callable[[_Source, Tokens], Node]] = {
    "autoescape": _autoescape,
    "comment": _comment,
    "cycle": _cycle,
    "filter": _filter,
    "firstof": _first_of,
    "for": _for,
    "if": _if,
    "ifchanged": _if_changed,
    "ifequal": _if_equal(True),
    "ifnotequal": _if_equal(False),
    "macro": _macro,
    "set": _set,
    "spaceless": _spaceless,
    "templatetag": _template_tag,
    "with": _with,
}
