"""How members look to a client: their state, and for how long they were not heard (spec/clustering.md 2)."""

from collections.abc import Mapping
from dataclasses import dataclass

from lxdnode.node.cluster.records import Member

ONLINE, OFFLINE, BLOCKED = "Online", "Offline", "Blocked"


@dataclass(frozen=True)
class Condition:
    """What is known of a member: `status` and `message` in LXD's words, `age` in seconds since the leader heard it."""

    status: str
    message: str
    age: float


def condition(member: Member, ages: Mapping[int, float], threshold: float, lowest_level: int) -> Condition:
    """The condition of a member. One that was never heard is as old as this daemon's own start."""
    age = ages.get(member.number, float("inf"))
    if age > threshold:
        return Condition(OFFLINE, f"no heartbeat since {duration(age)}", age)
    if member.level > lowest_level:
        return Condition(BLOCKED, "waiting for other nodes to be upgraded", age)
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
