"""Runs a function of a test in another network namespace, as a daemon of that host would run it.

Owns the child process that enters the namespace; refuses to make one (`namespaces.py` does)."""

import functools
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import trio
from pyroute2 import netns

_LIMIT = 60.0


def inside(namespace: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Calls a function (async: under trio) inside `namespace` and returns what it returns, or raises what it raises.

    A process of its own, because threads that this one keeps for later would stay in its namespace."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    call = functools.partial(function, *arguments, **options)
    child = context.Process(target=_enter, args=(namespace, call, theirs))
    child.start()
    theirs.close()
    try:
        assert ours.poll(_LIMIT), f"{function} did not end within {_LIMIT:g} seconds"
        outcome, value = ours.recv()
    finally:
        if child.is_alive():
            child.join(1)
            child.kill()
        child.join()
        ours.close()
    if outcome == "raised":
        raise value
    return value


def _enter(namespace: str, call: functools.partial[Any], answer: Connection) -> None:
    try:
        netns.setns(namespace)
        value = call()
        if hasattr(value, "__await__"):
            value = trio.run(_await, value)
        answer.send(("returned", value))
    except Exception as error:
        answer.send(("raised", error))
    finally:
        answer.close()


async def _await(value: Any) -> Any:
    return await value
