"""Host work that fails is taken back, in reverse, whatever else fails on the way."""

import pytest
import trio

from lxdnode.drivers.command import run
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.undo import Undo


async def test_success_forgets_the_steps() -> None:
    done: list[str] = []
    async with Undo() as undo:
        undo.add("a", done.append, "a")
    assert done == []


async def test_failure_runs_the_steps_last_first_and_keeps_the_error() -> None:
    done: list[str] = []

    async def slow(word: str) -> None:
        await trio.lowlevel.checkpoint()
        done.append(word)

    with pytest.raises(DriverError, match="disk is full"):
        async with Undo() as undo:
            undo.add("a", done.append, "a")
            undo.add("b", slow, "b")
            raise DriverError("disk is full")
    assert done == ["b", "a"]


async def test_a_step_that_fails_is_noted_and_stops_nobody() -> None:
    done: list[str] = []

    def broken() -> None:
        raise OSError("device is busy")

    with pytest.raises(DriverError) as caught:
        async with Undo() as undo:
            undo.add("a", done.append, "a")
            undo.add("unmount b", broken)
            raise DriverError("disk is full")
    assert done == ["a"]
    assert caught.value.__notes__ == ["could not undo: unmount b: device is busy"]


async def test_a_cancelled_operation_is_taken_back_too() -> None:
    done: list[str] = []

    async def slow() -> None:
        await trio.lowlevel.checkpoint()
        done.append("undone")

    with trio.move_on_after(5) as scope:
        async with Undo() as undo:
            undo.add("slow", slow)
            scope.cancel()
            await trio.sleep_forever()
    assert done == ["undone"]


async def test_a_tool_gives_its_output_and_a_failing_one_its_words() -> None:
    assert await run("cat", stdin=b"hello") == b"hello"
    with pytest.raises(DriverError, match=r"ls /no/such failed: .*No such file"):
        await run("ls", "/no/such")
    with pytest.raises(DriverError, match="no-such-tool is not installed"):
        await run("no-such-tool")
    with pytest.raises(DriverError, match=r"took more than 0\.1 seconds"):
        await run("sleep", "30", timeout=0.1)
