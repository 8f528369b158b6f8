"""The daemon's log: one line a record, on the standard error or in a file, and every record to those who listen."""

import logging
import sys
from pathlib import Path
from typing import TextIO

import structlog
from structlog.typing import Processor


def configure(level: str, logfile: str | None, listeners: Processor) -> None:
    """Writes records from `level` (debug, info, warning) on; `listeners` gets all of them, before any is left out."""
    least = getattr(logging, level.upper())
    out: TextIO = Path(logfile).open("a", buffering=1) if logfile else sys.stderr  # noqa: SIM115 - open until the end
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            listeners,
            _from(least),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=out.isatty()),
        ],
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=True,
    )


def _from(least: int) -> Processor:
    def drop_lower(_logger: object, method: str, record: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if getattr(logging, str(record["level"]).upper(), logging.ERROR) < least:
            raise structlog.DropEvent
        return record

    return drop_lower
