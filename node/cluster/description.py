"""How members look to a client: their state, what they run, and for how long they were not heard
(spec/clustering.md 2)."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from lxdnode.node.cluster.records import Member
from lxdnode.node.cluster.rules import newer
from lxdnode.node.documents import View
from lxdnode.node.server.description import VERSION
from lxdnode.raft.transaction import LEVEL

ONLINE, OFFLINE, BLOCKED = "Online", "Offline", "Blocked"


@dataclass(frozen=True)
class Condition:
    """What is known of a member: `status` and `message` in LXD's words, `age` in seconds since the leader heard it."""

    status: str
    message: str
    age: float


class Program(msgspec.Struct, frozen=True):
    """What a daemon runs. Members tell it each other by heartbeats (`Log.report`): one that is too old for the cluster
    cannot write it into its document."""

    version: str
    level: int


OWN_PROGRAM = msgspec.msgpack.encode(Program(VERSION, LEVEL))
_decoder = msgspec.msgpack.Decoder(Program)


def program(member: Member, reports: Mapping[int, bytes]) -> Program:
    """What a member runs, as it told last; by its document when it told nothing."""
    report = reports.get(member.number)
    return _decoder.decode(report) if report else Program(member.version, member.knows)


def condition(view: View, member: Member, runs: Program, ages: Mapping[int, float], threshold: float) -> Condition:
    """The condition of a member. One that was never heard is as old as this daemon's own start; one that runs a program
    too old for the cluster shows an old state and changes nothing."""
    age = ages.get(member.number, float("inf"))
    if age > threshold:
        return Condition(OFFLINE, f"no heartbeat since {duration(age)}", age)
    if runs.level < view.state.level:
        return Condition(BLOCKED, f"too old for this cluster: install {newer(view, view.state.level)}", age)
    return Condition(ONLINE, "fully operational", age)


def duration(seconds: float) -> str:
    """Seconds as Go writes a duration: `25.3s`, `1m2.5s`, `1h0m5s`."""
    if seconds == float("inf"):
        return "it joined"
    hours, rest = divmod(round(seconds, 1), 3600)
    minutes, left = divmod(rest, 60)
    text = f"{left:.1f}".removesuffix(".0") + "s"
    if hours:
        return f"{hours:.0f}h{minutes:.0f}m{text}"
    return f"{minutes:.0f}m{text}" if minutes else text
