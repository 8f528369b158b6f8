"""How commands print: tables for people, JSON and YAML for programs, and progress on what takes long."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
import yaml
from rich.console import Console
from rich.table import Table

format_option = click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json", "yaml", "csv"]),
    default="table",
    show_default=True,
    help="How to print the answer.",
)


def show(rows: Sequence[dict[str, Any]], columns: Sequence[str], style: str) -> None:
    """Prints rows; tables and CSV have the given columns, JSON and YAML everything."""
    if style == "json":
        click.echo(json.dumps(rows, indent=2))
    elif style == "yaml":
        click.echo(yaml.safe_dump(list(rows), sort_keys=False), nl=False)
    elif style == "csv":
        for row in rows:
            click.echo(",".join(_text(row.get(column)) for column in columns))
    else:
        _show_table(rows, columns)


def _show_table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    table = Table(*(column.replace("_", " ").upper() for column in columns))
    for row in rows:
        table.add_row(*(_text(row.get(column)) for column in columns))
    # Without a terminal a table must not be folded to 80 columns: scripts read its lines.
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "YES" if value else "NO"
    return "" if value is None else str(value)


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Shows that work goes on, on a terminal; says nothing elsewhere."""
    with Console(stderr=True).status(what):
        yield
