"""Runs a tool of the host from trio.

Owns what a failed tool means (DriverError with the tool's own words); refuses shells and joined command lines."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import trio

from lxdnode.drivers import orphans
from lxdnode.drivers.errors import DriverError

_WORDS = 2000
"""Most characters of a tool's own words in an error: some print a page of usage."""


async def run(
    *argv: str | Path,
    stdin: bytes | int = b"",
    stdout: int | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    timeout: float | None = None,
    is_service: bool = False,
) -> bytes:
    """Runs `argv` to its end and returns its standard output.

    `stdin`: the bytes that it reads, or a file descriptor. `stdout`: a file descriptor that takes its output (then
    b"" is returned). `is_service`: what it starts lives on when this daemon dies; a tool is ended by the next one
    (orphans.py). DriverError when it is missing, fails, or takes more than `timeout` seconds (it is killed)."""
    environment = os.environ if env is None else env
    if shutil.which(argv[0]) is None:
        raise DriverError(f"{argv[0]} is not installed on this host")
    try:
        with trio.fail_after(timeout if timeout is not None else float("inf")):
            done = await trio.run_process(
                [str(word) for word in argv],
                stdin=stdin,
                **({"capture_stdout": True} if stdout is None else {"stdout": stdout}),
                capture_stderr=True,
                check=False,
                env=environment if is_service else orphans.mark(environment),
                cwd=cwd,
            )
    except trio.TooSlowError:
        raise DriverError(f"{_named(argv)} took more than {timeout:g} seconds and was ended") from None
    if done.returncode:
        raise DriverError(f"{_named(argv)} failed: {_words(done.stderr) or f'status {done.returncode}'}")
    return done.stdout or b""


def _named(argv: tuple[str | Path, ...]) -> str:
    return " ".join(str(word) for word in argv[:4])


def _words(stderr: bytes | None) -> str:
    return (stderr or b"").decode(errors="replace").strip()[-_WORDS:]
