"""Daemons that die before a line of ours, for `scripts/every-line`: which deaths there are, each of them taken once.

Owns the order in which they are taken; refuses to know what is asked of a daemon meanwhile and what must hold
afterwards (a `Ground` does), and how it dies at a line (`doomed.py` does)."""

import shutil
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGUSR1
from subprocess import SubprocessError, TimeoutExpired
from typing import Protocol

from tests.harness.daemons import ApiError, Daemon
from tests.harness.doomed import FILES, RECORD, TIMES

ROOT = Path(__file__).resolve().parents[2]
_FAILURES = (AssertionError, ApiError, OSError, RuntimeError, SubprocessError)


@dataclass(frozen=True)
class Death:
    """A daemon that dies before a line. `what` is asked for meanwhile, `who` dies: the one that is asked ("host"), or
    another one that takes part."""

    what: str
    who: str
    line: str

    def __str__(self) -> str:
        return f"{self.what}, {self.who} dies before {self.line}"


class Ground(Protocol):
    """Daemons in `directory`. `record` lists the deaths that they can die; `die` lets them die one, and says whether it
    came about. AssertionError when something does not hold afterwards; the ground is of no use then."""

    directory: Path

    def record(self) -> list[Death]: ...

    def die(self, death: Death) -> bool: ...


Found = Callable[[], AbstractContextManager[Ground]]


@dataclass
class Report:
    """`recorded`: all deaths that there are; `reached`: those that came about; `missed`: those whose line was not run
    through; `failed`: those after which something did not hold, and what, in words."""

    recorded: list[Death] = field(default_factory=list)
    reached: list[Death] = field(default_factory=list)
    missed: list[Death] = field(default_factory=list)
    failed: dict[Death, str] = field(default_factory=dict)

    def table(self) -> Iterator[str]:
        """A line for each `what`: lines, deaths, failures."""
        yield f"{'':24}{'lines':>8}{'deaths':>8}{'failures':>10}"
        for what in dict.fromkeys(death.what for death in self.recorded):
            counts = (sum(one.what == what for one in found) for found in (self.recorded, self.reached, self.failed))
            lines, deaths, failures = counts
            yield f"{what:24}{lines:8}{deaths:8}{failures:10}"


def every_line(
    found: Found, first: int = 0, step: int = 1, tries: int = 3, tell: Callable[[str], object] = print
) -> Report:
    """Takes each `step`th death from the `first` on. One whose line is not run through is tried again, `tries` times in
    all: tasks take turns in no fixed order. After a death that went wrong all is founded anew."""
    report, due, tried = Report(), deque[Death](), Counter[Death]()
    while due or not report.recorded:
        death: Death | None = None
        try:
            with found() as ground:
                if not report.recorded:
                    report.recorded = ground.record()
                    due.extend(report.recorded[first::step])
                while due:
                    death = due.popleft()
                    tried[death] += 1
                    if ground.die(death):
                        report.reached.append(death)
                    else:
                        (due if tried[death] < tries else report.missed).append(death)
        except _FAILURES as error:
            if death is None:
                raise
            report.reached.append(death)
            report.failed[death] = f"{death}: {error} ({ground.directory}/*.log)"
            tell(report.failed[death])
    return report


@contextmanager
def place() -> Iterator[Path]:
    """A directory with a short path, which stays when something goes wrong in the block."""
    directory = Path(tempfile.mkdtemp(prefix="lxdn-lines-", dir="/tmp"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


def doom(daemon: Daemon, files: Iterable[str], times: int = 1) -> None:
    """Lets a daemon that starts next die before lines of these files, at each of the first `times` times."""
    daemon.program = [sys.executable, "-m", "tests.harness.doomed"]
    daemon.extra |= {"PYTHONPATH": f"{ROOT}:{ROOT}/src", FILES: " ".join(files), TIMES: str(times)}


def order(daemon: Daemon, line: str) -> None:
    """Lets it die before a line; "" is never."""
    Path(f"{daemon.directory}.order").write_text(line)
    daemon.signal(SIGUSR1)


@contextmanager
def recorded(daemon: Daemon) -> Iterator[list[str]]:
    """The lines that a daemon runs through in the block, in their order; they are in the list afterwards."""
    lines: list[str] = []
    file = Path(f"{daemon.directory}.lines")
    before = file.stat().st_size
    order(daemon, RECORD)
    yield lines
    order(daemon, "")
    lines += file.read_text()[before:].split()


def is_dead(daemon: Daemon) -> bool:
    """Whether it has ended."""
    return daemon.process is None or daemon.process.poll() is not None


def take_death(daemon: Daemon) -> bool:
    """Whether it is dead, or about to be: its clients learn it a little earlier than its parent. Starts it again then;
    else it dies no more."""
    assert daemon.process is not None
    with suppress(TimeoutExpired):
        daemon.process.wait(0.5)
    if is_dead(daemon):
        daemon.start().wait_ready(30)
        return True
    order(daemon, "")
    return False
