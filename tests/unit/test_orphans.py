"""Tools of a daemon that died: ended by the next one, and nothing else is."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lxdnode.drivers import orphans

_SLEEP = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]


@pytest.fixture
def ended() -> str:
    """The mark of a daemon that has ended."""
    with subprocess.Popen(["true"]) as process:
        pass
    return f"{process.pid}.1"


@pytest.fixture
def tools(ended: str) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Processes that run: one that a dead daemon waits for, one of ours, and two that nobody waits for."""
    environments = {
        "of a dead one": os.environ | {"LXD_NODE_WAITS": ended},
        "ours": orphans.mark(os.environ),
        "of nobody": dict(os.environ),
        "marked by somebody else": os.environ | {"LXD_NODE_WAITS": "for nothing"},
    }
    started = {
        name: subprocess.Popen(_SLEEP, env=environment, stdout=subprocess.PIPE)
        for name, environment in environments.items()
    }
    for process in started.values():
        assert process.stdout is not None and process.stdout.readline()  # It has its environment.
    yield dict(started)
    for process in started.values():
        process.kill()
        process.communicate()


def test_only_the_tools_of_a_daemon_that_has_ended_are_ended(tools: dict[str, subprocess.Popen[bytes]]) -> None:
    orphans.end()
    assert tools.pop("of a dead one").wait(10) == -9
    assert [process.poll() for process in tools.values()] == [None, None, None]


def test_a_mark_of_a_process_that_has_our_number_by_chance_is_no_mark_of_ours(ended: str) -> None:
    environment = os.environ | {"LXD_NODE_WAITS": f"{os.getpid()}.1"}  # It began at another time.
    with subprocess.Popen(_SLEEP, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        orphans.end()
        assert process.wait(10) == -9
