"""Profiles in force: a change of one reaches the running containers that use it, on every member.

Owns waiting for the members that can be reached (DESIGN.md 4); refuses to know what of a container can change live."""

from typing import TYPE_CHECKING

import structlog
import trio

from lxdnode.drivers.errors import DriverError
from lxdnode.node.containers import rules
from lxdnode.node.containers.host import Host
from lxdnode.node.containers.records import CONTAINERS, Container
from lxdnode.node.errors import NodeError, Unavailable
from lxdnode.node.profiles.records import PROFILES, reference
from lxdnode.node.reconcile.loop import Reconciler

if TYPE_CHECKING:
    from lxdnode.node.node import Node

log = structlog.get_logger(__name__)
_SETTLE, _SETTLE_LIMIT = "/internal/containers/settle", 5.0
_NOT_APPLIED = "The following containers failed to update (profile change still saved):"


class Profiles:
    """Applies profiles to the containers that run on this member."""

    def __init__(self, node: "Node", host: Host) -> None:
        self._node = node
        self._host = host

    def reconcilers(self) -> list[Reconciler]:
        """Bring changes of containers and profiles to what runs here."""

        def containers() -> list[str]:
            return [id for id, one in self._node.store.view().all(CONTAINERS) if one.member == self._node.member]

        async def apply(id: str) -> None:
            await self._host.found.wait()  # What was changed while no daemon was here concerns what runs.
            await self._host.apply(id)

        def profiles() -> list[str]:
            return [id for id, _ in self._node.store.view().all(PROFILES)]

        return [Reconciler("containers", containers, apply), Reconciler("profiles", profiles, self.apply)]

    async def settle(self, profile: str) -> None:
        """Returns when a changed profile is in force on every member that can be reached, or after 5 s.

        NodeError naming the containers that it failed on. Members that are away follow when they are back."""
        failed: list[str] = []

        async def ask(number: int) -> None:
            try:
                answer = await self._node.peers.request(number, "POST", _SETTLE, {"profile": profile})
                answer.metadata()
            except Unavailable as error:
                log.warning("profile not known to be in force", member=number, error=str(error))
            except NodeError as error:
                failed.append(str(error))

        async def apply_here() -> None:
            try:
                await self.apply(profile, check=True)
            except NodeError as error:
                failed.append(str(error))

        with trio.move_on_after(_SETTLE_LIMIT):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(apply_here)
                for number in self._members_with(profile) & self._node.cluster.reachable() - {self._node.member}:
                    nursery.start_soon(ask, number)
        if failed:
            raise NodeError("\n".join([_NOT_APPLIED, *failed]))

    def _members_with(self, profile: str) -> set[int]:
        """The members that hold containers with a profile: the others need not know at once."""
        return {container.member for _, container in self._containers_with(profile)}

    async def apply(self, profile: str, *, check: bool = False) -> None:
        """Applies a profile as it is now to the containers here that use it; `check`: looks as well at what each of
        them takes up at its next start only. NodeError with a line for each failure."""
        failed = []
        for id, container in self._containers_with(profile):
            if container.member != self._node.member:
                continue
            try:
                if check:
                    rules.check(self._node.store.view(), id)
                    await self._host.check(id)
                await self._host.apply(id)
            except (DriverError, NodeError) as error:
                failed.append(f" - {container.name}: {error}")
        if failed:
            raise NodeError("\n".join(failed))

    def _containers_with(self, profile: str) -> list[tuple[str, Container]]:
        """(id, record) of the containers that have a profile, by name."""
        view = self._node.store.view()
        users = (user.partition(":") for user in view.users(reference(profile)))
        found = [(id, view.get(CONTAINERS, id)) for kind, _, id in users if kind == "container"]
        there = [(id, container) for id, container in found if container is not None]
        return sorted(there, key=lambda one: one[1].name)
