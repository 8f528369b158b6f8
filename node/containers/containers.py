"""The containers of this member as operations see them: create, change, rename, delete, start, stop, freeze.

Owns the order of the work on one container (one action at a time), its undo and its intents; refuses HTTP, and what
concerns running processes (`host.py`) and documents (`rules.py`)."""

import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
import trio

from lxdnode.drivers.config.kinds import is_false, is_true, parse_integer, parse_size
from lxdnode.drivers.devices.registry import root_disk
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.storage.volume import Kind, Volume
from lxdnode.drivers.undo import Undo
from lxdnode.node.cluster.rules import member as find_member
from lxdnode.node.containers import rules
from lxdnode.node.containers.expansion import Expanded, expand
from lxdnode.node.containers.host import Host, Live
from lxdnode.node.containers.records import CONTAINERS, FROZEN, RUNNING, STOPPED, Container
from lxdnode.node.containers.source import Origin
from lxdnode.node.documents import Draft
from lxdnode.node.errors import NodeError, Unavailable
from lxdnode.node.profiles.records import PROFILES, reference
from lxdnode.node.reconcile.loop import Reconciler

if TYPE_CHECKING:
    from lxdnode.node.node import Node

log = structlog.get_logger(__name__)
_INTENTS = "containers"
_SETTLE, _SETTLE_LIMIT = "/internal/containers/settle", 5.0
_NOT_APPLIED = "The following containers failed to update (profile change still saved):"


class Intent(msgspec.Struct):
    """A note of work on the host that was begun: `create` or `rename` (to `new`) of a container's volume."""

    work: str
    pool: str
    name: str
    new: str = ""


class Containers:
    """The containers of this member. Methods raise NodeError with LXD's words, or DriverError with the host's."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self.host = Host(node)
        self.host.on_end = self._ended

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Looks after the containers until cancelled: what was begun before is finished or undone first, then the API
        may start containers, then those that are due start."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self.host.run)
            await self._finish_intents()
            task_status.started()
            await self.autostart()

    @property
    def place(self) -> rules.Place:
        """This member, as containers are made on it."""
        member = find_member(self._node.store.view(), self._node.member)
        return rules.Place(self._node.member, member.incarnation if member else 0, self.host.range)

    # Documents

    async def create(self, id: str, wanted: rules.Wanted, origin: Origin, operation: str, author: str) -> None:
        """Makes a container from an image, from another container, or empty. What was made is removed when it fails."""
        request = f"create container {wanted.name}"

        def reserve(draft: Draft) -> Container:
            return rules.reserve(draft, id, wanted, self.place, operation)

        container = await self._node.store.transact(reserve, author=author, request=request)
        async with self._node.locks.hold(id, "create"), Undo() as undo:
            undo.add(f"forget container {wanted.name}", self._forget, id)
            self._node.notes.put(_INTENTS, id, Intent("create", container.pool, container.name))
            undo.add("remove the intent", self._node.notes.delete, _INTENTS, id)
            undo.add(f"remove the volume of {wanted.name}", self._remove_data, container)
            await self._make_data(self._get(id), origin)
            await self._node.store.transact(lambda draft: rules.confirm(draft, id), author=author, request=request)
        self._node.notes.delete(_INTENTS, id)

    async def update(
        self,
        id: str,
        author: str,
        check: Callable[[Expanded], None],
        change: Callable[[Expanded], Mapping[str, Any]],
    ) -> None:
        """Changes a container, and applies to a running one what can be: `change` gives the fields of `rules.update`
        from what the container is, after `check` has let it pass."""

        def write(draft: Draft) -> Expanded:
            old = expand(draft, id)
            check(old)
            rules.update(draft, id, self.place, **change(old))
            if self.host.live(id) is not None:
                _refuse_hotplug(old, expand(draft, id))
            return old

        async with self._node.locks.hold(id, "update"):
            old = await self._node.store.transact(write, author=author, request="update container")
            try:
                await self._apply(id, old)
            except DriverError:
                await self._node.store.transact(
                    lambda draft: rules.restore(draft, old), author=author, request="take back an update"
                )
                raise

    async def rename(self, id: str, new: str, author: str) -> None:
        """Gives a stopped container another name, its volume and logs along."""
        async with self._exclusive(id, "rename"), Undo() as undo:
            container = self._get(id).container
            rules.rename(Draft(self._node.log.state), id, new)  # For its refusals, before the volume is touched.
            self._node.notes.put(_INTENTS, id, Intent("rename", container.pool, container.name, new))
            undo.add("remove the intent", self._node.notes.delete, _INTENTS, id)
            undo.add(f"name the volume {container.name} again", self._rename_data, container.pool, new, container.name)
            await self._rename_data(container.pool, container.name, new)
            await self._node.store.transact(
                lambda draft: rules.rename(draft, id, new), author=author, request=f"rename container {container.name}"
            )
        self._node.notes.delete(_INTENTS, id)

    async def delete(self, id: str, author: str) -> None:
        """Deletes a stopped container and all that belongs to it."""
        async with self._exclusive(id, "delete"):
            if self.host.live(id) is not None:
                raise NodeError("container is running")
            await self._delete(id, author)

    async def _delete(self, id: str, author: str) -> None:
        await self._node.store.transact(
            lambda draft: rules.condemn(draft, id), author=author, request="delete container"
        )
        await self._remove_data(self._get(id).container)
        await self._forget(id)

    # Transitions

    async def start(self, id: str) -> None:
        """Starts a container."""
        async with self._exclusive(id, "start"):
            if self.host.live(id) is not None:
                raise NodeError("The container is already running")
            await self.host.start(id)

    async def stop(self, id: str, *, timeout: int = -1, force: bool = False) -> None:
        """Stops a container: at once with `force` or a timeout of 0, else cleanly within `timeout` seconds (-1: no
        limit). A forced stop joins a clean one that waits."""
        force = force or timeout == 0
        live = self._require(id, "The container is already stopped")
        if force and self._node.locks.holder(id) == "stop":
            await live.running.kill()
            async with self._node.locks.hold(id, "stop"):
                return  # The other one has reported it.
        async with self._exclusive(id, "stop"):
            await self._end(id, self._require(id, "The container is already stopped"), timeout, force)
            if self._get(id).container.ephemeral:
                await self._delete(id, f"member:{self._node.member}")

    async def restart(self, id: str, *, timeout: int = -1, force: bool = False) -> None:
        """Stops a container as `stop` does and starts it again; an ephemeral one survives."""
        force = force or timeout == 0
        live = self._require(id, "The container is already stopped")
        if live.running.frozen and not force:
            raise NodeError("container is not running")
        async with self._exclusive(id, "restart"):
            await self._end(id, live, timeout, force)
            await self.host.start(id)

    async def freeze(self, id: str) -> None:
        """Stops all processes of a container where they are."""
        async with self._exclusive(id, "freeze"):
            live = self._require(id, "The container isn't running")
            if live.running.frozen:
                raise NodeError("The container is already frozen")
            await live.running.freeze(True)
            await self.host.report(id, FROZEN, "container-paused")

    async def unfreeze(self, id: str) -> None:
        """Lets a frozen container go on."""
        async with self._exclusive(id, "unfreeze"):
            live = self.host.live(id)
            if live is None or not live.running.frozen:
                raise NodeError("The container is already running")
            await live.running.freeze(False)
            await self.host.report(id, RUNNING, "container-resumed")

    async def _end(self, id: str, live: Live, timeout: int, force: bool) -> None:
        """Ends a container and reports it. NodeError when a clean stop takes too long; it goes on running then."""
        live.busy = True
        try:
            if force:
                await live.running.kill()
            else:
                await self._shut_down(live, timeout)
            await live.ended.wait()
        finally:
            live.busy = live.ended.is_set()
        await self.host.report(id, STOPPED, "container-stopped" if force else "container-shutdown")

    async def _shut_down(self, live: Live, timeout: int) -> None:
        if live.running.frozen:
            await live.running.freeze(False)
        live.running.shut_down()
        with trio.move_on_after(timeout if timeout > 0 else float("inf")):
            await live.ended.wait()
            return
        raise NodeError("shutting down the container failed")

    async def _ended(self, id: str, live: Live) -> None:
        """What follows the end of a container that nobody here asked for: a reboot, or a stop from inside."""
        async with self._node.locks.hold(id, "start" if live.target == "reboot" else "stop"):
            if self.host.live(id) is not None:
                return
            if live.target == "reboot":
                try:
                    await self.host.start(id, event="")
                    return
                except (DriverError, NodeError) as error:
                    log.error("container does not come back from its reboot", container=id, error=str(error))
            await self.host.report(id, STOPPED)
            try:
                if self._get(id).container.ephemeral:
                    await self._delete(id, f"member:{self._node.member}")
            except NodeError as error:
                log.warning("ephemeral container stays", container=id, error=str(error))

    # The daemon's start and end

    async def autostart(self) -> None:
        """Starts what is to start with the daemon, in order; a failure is logged and the next one goes on."""
        view = self._node.store.view()
        mine = [expand(view, id) for id, container in view.all(CONTAINERS) if self._is_mine(container)]
        due = [one for one in mine if self.host.live(one.id) is None and _starts_with_daemon(one)]
        for one in sorted(due, key=lambda one: (-_number(one, "boot.autostart.priority"), one.name)):
            try:
                await self.start(one.id)
            except (DriverError, NodeError) as error:
                log.error("container does not start with the daemon", container=one.name, error=str(error))
            await trio.sleep(_number(one, "boot.autostart.delay"))

    async def shut_down(self) -> None:
        """Stops all containers of this member, by priority; they start again with the daemon."""
        view = self._node.store.view()
        groups: dict[int, list[Expanded]] = {}
        for id in self.host.all():
            found = expand(view, id)
            groups.setdefault(_number(found, "boot.stop.priority"), []).append(found)
        for _, group in sorted(groups.items(), reverse=True):
            async with trio.open_nursery() as nursery:
                for found in group:
                    nursery.start_soon(self._end_with_host, found)

    async def _end_with_host(self, found: Expanded) -> None:
        live = self.host.live(found.id)
        if live is None:
            return
        live.busy = True
        try:
            await self._shut_down(live, _number(found, "boot.host_shutdown_timeout", 30))
        except NodeError:
            await live.running.kill()
        await live.ended.wait()
        await self.host.report(found.id, STOPPED, keep_power=True)

    # Profiles and members

    def remove_member(self, draft: Draft, number: int) -> None:
        """Deletes the containers of a member that is removed by force: their data went with it."""
        for id, container in draft.all(CONTAINERS):
            if container.member == number:
                rules.forget(draft, id)

    def reconcilers(self) -> list[Reconciler]:
        """Bring changes of containers and profiles to what runs here."""

        def ids() -> list[str]:
            return list(self.host.all())

        def profiles() -> list[str]:
            return [id for id, _ in self._node.store.view().all(PROFILES)]

        return [
            Reconciler("containers", ids, self.host.apply),
            Reconciler("profiles", profiles, self.apply_profile),
        ]

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

        async def apply() -> None:
            try:
                await self.apply_profile(profile)
            except NodeError as error:
                failed.append(str(error))

        with trio.move_on_after(_SETTLE_LIMIT):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(apply)
                for number in self._node.cluster.reachable() - {self._node.member}:
                    nursery.start_soon(ask, number)
        if failed:
            raise NodeError("\n".join([_NOT_APPLIED, *failed]))

    async def apply_profile(self, profile: str) -> None:
        """Applies a profile as it is now to the containers here that use it. NodeError with a line for each failure."""
        failed = []
        for user in self._node.store.view().users(reference(profile)):
            kind, _, id = user.partition(":")
            if kind != "container" or (live := self.host.live(id)) is None:
                continue
            try:
                await self.host.apply(id)
            except DriverError as error:
                failed.append(f" - {live.running.name}: {error}")
        if failed:
            raise NodeError("\n".join(failed))

    # Parts of the work

    async def _make_data(self, found: Expanded, origin: Origin) -> None:
        pool, name, source = found.container.pool, found.name, origin.container
        if source is not None:
            await self._node.storage.copy_container(pool, name, source_pool=source.pool, source=source.name)
        else:
            privileged = is_true(found.config.get("security.privileged"))
            path = await self._node.storage.create_container(pool, name, image=origin.image, privileged=privileged)
            await trio.Path(path / "rootfs").mkdir(mode=0o755, exist_ok=True)
        await self._set_quota(found.container, root_disk(found.devices)[1].get("size", ""))

    async def _set_quota(self, container: Container, size: str) -> None:
        """Limits the root disk, where the driver can; elsewhere the size is a wish (spec/storage.md)."""
        driver = self._node.storage.driver(container.pool)
        if driver.capabilities.quotas and size:
            await driver.set_quota(Volume(Kind.CONTAINER, container.name), parse_size(size))

    async def _remove_data(self, container: Container) -> None:
        """Removes what a container has on this host, but its logs, which stay for a while."""
        await self._node.storage.delete_container(container.pool, container.name)
        await trio.to_thread.run_sync(self.host.paths(container.name).remove)

    async def _rename_data(self, pool: str, old: str, new: str) -> None:
        """Renames volume and logs; nothing when they bear the new name already."""
        if await self._node.storage.driver(pool).has_volume(Volume(Kind.CONTAINER, old)):
            await self._node.storage.rename_container(pool, old, new)
        await trio.to_thread.run_sync(self.host.paths(old).rename, self.host.paths(new))

    async def _apply(self, id: str, old: Expanded) -> None:
        await self.host.apply(id)
        new = self._get(id)
        before, after = (root_disk(one.devices)[1].get("size", "") for one in (old, new))
        if before != after:
            await self._set_quota(new.container, after or "0")

    async def _forget(self, id: str) -> None:
        await self._node.store.transact(
            lambda draft: rules.forget(draft, id), author=f"member:{self._node.member}", request="forget container"
        )

    async def _finish_intents(self) -> None:
        """Undoes creations and finishes renames and deletions that a daemon of before did not end."""
        view = self._node.store.view()
        for id, intent in list(self._node.notes.all(_INTENTS, Intent)):
            container = view.get(CONTAINERS, id)
            if intent.work == "rename" and container is not None:
                wrong = intent.new if container.name == intent.name else intent.name
                await self._rename_data(intent.pool, wrong, container.name)
            elif intent.work == "create" and container is None and view.find("container", intent.name) is None:
                await self._remove_data(Container(name=intent.name, member=self._node.member, pool=intent.pool))
            self._node.notes.delete(_INTENTS, id)
        for id, container in view.all(CONTAINERS):
            if self._is_mine(container) and container.phase != "created":
                await self._remove_data(container)
                self._nursery.start_soon(self._forget, id)

    def _is_mine(self, container: Container) -> bool:
        return container.member == self._node.member

    def _get(self, id: str) -> Expanded:
        return expand(self._node.store.view(), id)

    def _require(self, id: str, words: str) -> Live:
        live = self.host.live(id)
        if live is None:
            raise NodeError(words)
        return live

    @asynccontextmanager
    async def _exclusive(self, id: str, what: str) -> AsyncIterator[None]:
        """One action at a time: another one is refused, not queued."""
        if (holder := self._node.locks.holder(id)) is not None:
            raise NodeError(f"Container is busy running a {holder} operation")
        async with self._node.locks.hold(id, what):
            yield


def new_id() -> str:
    """The id of a container that is about to be made."""
    return str(uuid.uuid4())


def _number(found: Expanded, key: str, default: int = 0) -> int:
    return parse_integer(found.config.get(key, "")) or default


def _starts_with_daemon(found: Expanded) -> bool:
    wanted = found.config.get("boot.autostart", "")
    if found.container.phase != "created" or is_false(wanted):
        return False
    return is_true(wanted) or found.status.volatile.get("volatile.last_state.power") == "RUNNING"


def _refuse_hotplug(old: Expanded, new: Expanded) -> None:
    """Devices of a running container cannot be changed yet, but for the size of its root disk, and what is none."""
    for name in sorted(old.devices.keys() | new.devices.keys()):
        before, after = (one.devices.get(name, {}) for one in (old, new))
        if all(entry.get("type", "none") == "none" for entry in (before, after)):
            continue
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        if changed - {"size"}:
            raise NodeError(f"Device '{name}' cannot be changed while the container runs: stop {old.name} first")
