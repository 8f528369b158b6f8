"""Takes back host work that did not end well.

Owns the order (last in, first out) and what happens when taking back fails as well; refuses to know any step."""

import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import trio

_STEP_LIMIT = 60.0
"""Seconds that one step may take: a host that hangs must not keep an operation open for ever."""


class Undo:
    """A stack of steps that take back what was done: run when the block fails, forgotten when it succeeds.

    async with Undo() as undo:
        undo.add("delete the volume of c1", storage.delete, volume)   # registered first, so that ...
        await storage.create(volume)                                  # ... half done work is taken back too

    A step must cope with work that was never begun. Steps are sync or async and run shielded from cancellation.
    A step that fails is added to the error as a note and does not stop the others."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, Callable[[], Any]]] = []

    def add(self, what: str, step: Callable[..., Any], *arguments: Any) -> None:
        """Registers the step that takes back the work which follows; `what` names it for a person."""
        self._steps.append((what, lambda: step(*arguments)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._steps.clear()
        while self._steps:
            what, step = self._steps.pop()
            try:
                await _run(step)
            except Exception as failure:
                assert error is not None
                error.add_note(f"could not undo: {what}: {failure}")


async def _run(step: Callable[[], Any]) -> None:
    with trio.fail_after(_STEP_LIMIT) as scope:
        scope.shield = True
        result = step()
        if inspect.isawaitable(result):
            await result
