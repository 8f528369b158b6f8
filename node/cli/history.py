"""`lxd-node history`: what was changed, when, by whom, and from what to what."""

import difflib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import urlencode

import click
import yaml

from lxdnode.node.cli.client import Client, state_directory
from lxdnode.node.cli.lifecycle import directory_option
from lxdnode.node.cli.output import format_option, show

_COLUMNS = ("index", "time", "author", "member", "request")
_PAGE = 1000
_LAST = 20
F = TypeVar("F", bound=Callable[..., Any])


def choices(command: F) -> F:
    """The options that say which changes, and how to print them."""
    options = (
        click.option("--since", metavar="INDEX|TIME", help="All behind an index of the log, or from a time on (UTC)."),
        click.option("--until", metavar="INDEX|TIME", help="Up to an index or a time."),
        click.option("--object", metavar="URL|KEY", help="Of one object: /1.0/profiles/web, or TABLE/GROUP/NAME."),
        click.option("--author", help="By one author: unix:UID, certificate:FINGERPRINT or member:NUMBER."),
        click.option(
            "--limit", type=click.IntRange(1), help=f"At most so many; without --since the last {_LAST} by default."
        ),
        click.option("--diff", is_flag=True, help="Show each document before and after."),
        format_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@directory_option
@choices
def history(directory: str | None, style: str, diff: bool, **wanted: Any) -> None:
    """Show what was changed in the cluster, when, by whom, and from what to what.

    \b
      lxd-node history --diff                                  the last changes, as differences
      lxd-node history --since 2026-01-31T12:00 --author unix:0
      lxd-node history --since 0 --object /1.0/profiles/web --format json
    """
    client = Client(state_directory(directory))
    rows = collect(lambda values: client.ask("GET", f"/internal/history?{urlencode(values)}"), wanted)
    print_history(rows, style, diff)


def collect(ask: Callable[[dict[str, str]], Any], wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows that `ask` gives, page after page; in the place of what nobody knows a row {"gap": [from, to]}."""
    left = wanted["limit"] or (None if wanted["since"] else _LAST)
    values = {name: str(value) for name, value in wanted.items() if value}
    while left is None or left > 0:
        page = min(_PAGE, left or _PAGE)
        answer = ask({**values, "limit": str(page)})
        rows, gaps = answer["entries"], answer["gaps"]
        for row in rows if left is None else rows[:left]:
            while gaps and gaps[0][1] <= row["index"]:
                yield _gap(*gaps.pop(0))
            yield row
        yield from (_gap(*gap) for gap in gaps)
        if len(rows) < page or "since" not in values:
            return
        left = None if left is None else left - len(rows)
        values["since"] = str(rows[-1]["index"])


def _gap(after: int, index: int) -> dict[str, Any]:
    return {"gap": [after + 1, index]}


def print_history(rows: Iterator[dict[str, Any]], style: str, diff: bool) -> None:
    """Prints rows; differences, one change below the other, or a table."""
    if style in ("json", "yaml"):
        show(list(rows), _COLUMNS, style)
    elif diff:
        for row in rows:
            click.echo(_described(row))
    else:
        show([_shortened(row) for row in rows], _COLUMNS, style)


def _shortened(row: dict[str, Any]) -> dict[str, Any]:
    """A row as a line of a table."""
    if "gap" in row:
        return {"index": row["gap"][0], "request": _words(row)}
    kind, _colon, name = row["author"].partition(":")
    return {**row, "time": row["at"][:19], "author": f"{kind}:{name[:12]}" if name else kind}


def _words(row: dict[str, Any]) -> str:
    first, last = row["gap"]
    return f"(what was changed from {first} to {last} is not known any more)"


def _described(row: dict[str, Any]) -> str:
    if "gap" in row:
        return f"{_words(row)}\n"
    lines = [f"{row['index']}  {row['at']}  {row['author']}  member {row['member']}", row["request"]]
    for change in row["changes"]:
        lines += [f"  {change['key']}", *(f"    {line}" for line in _difference(change["before"], change["after"]))]
    lines += [f"  {one['action']} {one['source']}" for one in row["events"]]
    return "\n".join(lines) + "\n"


def _difference(before: Any, after: Any) -> list[str]:
    """What was and what is, line by line, with what is the same around it."""
    old, new = ([] if one is None else _lines(one) for one in (before, after))
    compared = list(difflib.unified_diff(old, new, lineterm="", n=2))
    return [line for line in compared if not line.startswith(("---", "+++", "@@"))]


def _lines(document: Any) -> list[str]:
    text: str = yaml.safe_dump(document, sort_keys=True, allow_unicode=True)
    return [line for line in text.splitlines() if line != "..."]
