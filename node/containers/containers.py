"""The containers of this member as operations see them: create, change, rename, delete, start, stop, freeze.

Owns the order of the work on one container (one action at a time), its undo and its intents; refuses HTTP, and what
concerns running processes (`host.py`) and documents (`rules.py`)."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog
import trio

from lxdnode.drivers.config.kinds import is_false, is_true, parse_integer
from lxdnode.drivers.devices.registry import root_disk
from lxdnode.drivers.undo import Undo
from lxdnode.node.containers import checkpoints, logs, rules
from lxdnode.node.containers.backups import Backups
from lxdnode.node.containers.data import Data
from lxdnode.node.containers.expansion import Expanded, expand
from lxdnode.node.containers.host import Host
from lxdnode.node.containers.live import Live
from lxdnode.node.containers.migrations import Migrations
from lxdnode.node.containers.moves import Moves
from lxdnode.node.containers.profiles import Profiles
from lxdnode.node.containers.records import CONTAINERS, FROZEN, RUNNING, STOPPED, Container
from lxdnode.node.containers.snapshots import Snapshots
from lxdnode.node.containers.source import Origin
from lxdnode.node.documents import Draft
from lxdnode.node.errors import NodeError
from lxdnode.node.reconcile.loop import Reconciler

if TYPE_CHECKING:
    from lxdnode.node.node import Node

log = structlog.get_logger(__name__)


class Containers:
    """The containers of this member. Methods raise NodeError with LXD's words, or DriverError with the host's."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self.host = Host(node)
        self.host.on_end = self._ended
        self.profiles = Profiles(node, self.host)
        self._data = Data(node, self.host)
        self.snapshots = Snapshots(node, self)
        self.backups = Backups(node, self)
        self.moves = Moves(node, self, self._data)
        self.migrations = Migrations(node, self)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Looks after the containers until cancelled: what was begun before is finished or undone first, then the API
        may start containers, then those that are due start."""
        async with trio.open_nursery() as self._nursery:
            await self._nursery.start(self.host.run)
            await self.host.owners.finish()
            await self.host.checkpoints.finish()
            await self.snapshots.finish()
            await self.backups.finish()
            self.moves.finish(self._nursery)
            for id in await self._data.finish():
                await self._attempt("container not forgotten", self._forget, id)
            self._nursery.start_soon(logs.keep, self._node)
            task_status.started()
            await self.autostart()

    @property
    def place(self) -> rules.Place:
        """This member, as containers are made on it."""
        return self.host.place

    # Documents

    async def create(self, id: str, wanted: rules.Wanted, origin: Origin, operation: str, author: str) -> None:
        """Makes a container from an image, from another container, or empty. What was made is removed when it fails."""
        request = f"create container {wanted.name}"
        await self._node.ready.wait()

        def reserve(draft: Draft) -> Container:
            return rules.reserve(draft, id, wanted, self.place, operation)

        container = await self._node.store.transact(reserve, author=author, request=request)
        async with self._node.locks.hold(id, "create"), Undo() as undo:
            undo.add(f"forget container {wanted.name}", self._forget, id)
            snapshots = await self._data.make(self._get(id), origin)
            undo.add("remove the intent", self._data.done, id)
            names = [snapshot.name for snapshot in snapshots]
            undo.add(f"remove the volumes of {wanted.name}", self._data.remove, container, names)
            volatile = {} if origin.arrival is None else origin.arrival.volatile
            await self._node.store.transact(
                lambda draft: rules.confirm(draft, id, snapshots, volatile), author=author, request=request
            )
        self._data.done(id)
        if origin.image is not None:
            self._nursery.start_soon(self._attempt, "use not recorded", self._node.images.use, origin.image)

    async def _attempt(self, failure: str, work: Callable[[str], Awaitable[None]], id: str) -> None:
        """Work that no client waits for: its failure is logged, and changes nothing for anybody."""
        try:
            await work(id)
        except NodeError as error:
            log.warning(failure, id=id, error=str(error))

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
            return old

        async with self._node.locks.hold(id, "update"), self.host.alone(id):
            await self._check(expand(self._node.store.view(), id), change)
            old = await self._node.store.transact(write, author=author, request="update container")
            try:
                await self.host.check(id)
                await self._apply(id, old)
            except Exception:  # Whatever it is, the documents must not want what is not in force.
                await self._node.store.transact(
                    lambda draft: rules.restore(draft, old, self.place), author=author, request="take back an update"
                )
                raise

    async def _check(self, old: Expanded, change: Callable[[Expanded], Mapping[str, Any]]) -> None:
        """NodeError when a change brings what no rule knows to be wrong: lines that liblxc does not take."""
        wanted = change(old)
        rules.check_volatile(old, wanted["config"])
        raw = wanted["config"].get("raw.lxc", "")
        if raw and raw != old.local.get("raw.lxc"):
            rules.update(Draft(self._node.log.state), old.id, self.place, **wanted)  # What it refuses has better words.
            await self.host.check_raw(raw)

    async def rename(self, id: str, new: str, author: str) -> None:
        """Gives a stopped container another name, its volume and logs along."""
        async with self.exclusive(id, "rename"), Undo() as undo:
            container = self._get(id).container
            rules.rename(Draft(self._node.log.state), id, new)  # For its refusals, before the volume is touched.
            undo.add("remove the intent", self._data.done, id)
            undo.add(
                f"name the volume {container.name} again", self._data.rename, id, container.pool, new, container.name
            )
            await self._data.rename(id, container.pool, container.name, new)
            await self._node.store.transact(
                lambda draft: rules.rename(draft, id, new), author=author, request=f"rename container {container.name}"
            )
        self._data.done(id)

    async def delete(self, id: str, author: str) -> None:
        """Deletes a stopped container and all that belongs to it; one that is still coming comes no further."""
        if self.migrations.give_up(id):
            async with self._node.locks.hold(id, "delete"):
                if self._node.store.view().get(CONTAINERS, id) is None:
                    return  # Its creation has taken back what there was.
        async with self.exclusive(id, "delete"):
            if self.host.live(id) is not None:
                raise NodeError("container is running")
            await self._delete(id, author)

    async def _delete(self, id: str, author: str) -> None:
        await self._node.store.transact(
            lambda draft: rules.condemn(draft, id), author=author, request="delete container"
        )
        await self._data.remove_all(id, self._get(id).container)
        await self._forget(id)

    async def _delete_ephemeral(self, id: str) -> None:
        """Deletes a container that has stopped if it lives no longer than that; a protected one stays."""
        found = self._get(id)
        if found.container.ephemeral and not is_true(found.config.get("security.protection.delete")):
            await self._delete(id, f"member:{self._node.member}")

    # Transitions

    async def start(self, id: str, *, stateful: bool = False) -> None:
        """Starts a container; `stateful`: with the processes that a stop has stored, which are forgotten otherwise."""
        async with self.exclusive(id, "start"):
            if self.host.live(id) is not None:
                raise NodeError("The container is already running")
            await self._start(id, stateful)

    async def _start(self, id: str, stateful: bool) -> None:
        if not stateful:
            await self.host.start(id)
            return
        if not self._get(id).status.stateful:
            raise NodeError("Container has no existing state to restore.")
        checkpoints.require("Failed to restore container state.")
        await self.host.start(id, event="", stateful=True)

    async def stop(self, id: str, *, timeout: int = -1, force: bool = False, stateful: bool = False) -> None:
        """Stops a container: at once with `force` or a timeout of 0, else cleanly within `timeout` seconds (-1: no
        limit). A forced stop joins a clean one that waits. `stateful`: their state is stored first, and they go on when
        it cannot be."""
        force = force or timeout == 0
        live = self._require(id, "The container is already stopped")
        if stateful:
            checkpoints.require("Unable to store the container's processes.")
        if force and self._node.locks.holder(id) == "stop":
            await live.running.kill()
            async with self._node.locks.hold(id, "stop"):
                return  # The other one has reported it.
        async with self.exclusive(id, "stop"):
            live = self._require(id, "The container is already stopped")
            if stateful:
                await self._store(id, live)
            else:
                await self._end(id, live, timeout, force)
            await self._delete_ephemeral(id)

    async def restart(self, id: str, *, timeout: int = -1, force: bool = False) -> None:
        """Stops a container as `stop` does and starts it again, whoever does so when this daemon falls in between; an
        ephemeral one survives."""
        force = force or timeout == 0
        live = self._require(id, "The container is already stopped")
        if live.running.frozen and not force:
            raise NodeError("container is not running")
        async with self.exclusive(id, "restart"):
            await self._end(id, live, timeout, force, power="RUNNING")
            try:
                await self.host.start(id)
            except Exception:
                await self.host.report(id, STOPPED)
                raise

    @asynccontextmanager
    async def stopped(self, id: str, *, stateful: bool = False) -> AsyncIterator[None]:
        """While a container that runs is killed for some work, after which it starts again; `stateful`: with the
        processes whose state the work brings, also if it did not run. The caller excludes others; when the work fails
        it stays stopped."""
        live = self.host.live(id)
        if live is not None:
            await self._end(id, live, 0, force=True)
        yield
        if live is not None or stateful:
            await self._start(id, stateful)

    async def freeze(self, id: str) -> None:
        """Stops all processes of a container where they are."""
        async with self.exclusive(id, "freeze"):
            live = self._require(id, "The container isn't running")
            if live.running.frozen:
                raise NodeError("The container is already frozen")
            await live.running.freeze(True)
            await self.host.report(id, FROZEN, "container-paused")

    async def unfreeze(self, id: str) -> None:
        """Lets a frozen container go on."""
        async with self.exclusive(id, "unfreeze"):
            live = self.host.live(id)
            if live is None or not live.running.frozen:
                raise NodeError("The container is already running")
            await self._thaw(id, live)

    async def _thaw(self, id: str, live: Live) -> None:
        if live.running.frozen:
            await live.running.freeze(False)
            await self.host.report(id, RUNNING, "container-resumed")

    async def _end(self, id: str, live: Live, timeout: int, force: bool, *, power: str = "") -> None:
        """Ends a container and reports it, with `last_state.power` if that is not to say so. NodeError when a clean
        stop takes too long; it goes on running then."""
        live.busy = True
        try:
            if force:
                await live.running.kill()
            else:
                await self._shut_down(id, live, timeout)
            await live.ended.wait()
        finally:
            live.busy = live.ended.is_set()
        event = "container-stopped" if force else "container-shutdown"
        await self.host.report(id, STOPPED, event, power=power)

    async def _store(self, id: str, live: Live) -> None:
        """Ends a container whose processes are stored. When they cannot be, they go on."""
        await self._thaw(id, live)
        live.busy = True
        try:
            async with self.host.checkpoints.written(id, live, stop=True):
                pass
            await live.ended.wait()
        finally:
            live.busy = live.ended.is_set()
        await self.host.report(id, STOPPED, "container-stopped", stateful=True)
        self.host.checkpoints.done(id)

    async def _shut_down(self, id: str, live: Live, timeout: int) -> None:
        await self._thaw(id, live)
        live.running.shut_down()
        with trio.move_on_after(timeout if timeout >= 0 else float("inf")):
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
                except Exception as error:  # Whatever it is, the daemon goes on.
                    log.error("container does not come back from its reboot", container=id, exc_info=error)
            await self.host.report(id, STOPPED)
            try:
                await self._delete_ephemeral(id)
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
                await self.start(one.id, stateful=one.status.stateful)
            except Exception as error:  # Whatever it is: the others start, and so does the daemon.
                log.error("container does not start with the daemon", container=one.name, exc_info=error)
            await trio.sleep(max(_number(one, "boot.autostart.delay"), 0))

    async def shut_down(self) -> None:
        """Stops all containers of this member, by priority; those that were not frozen start again with the daemon."""
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
        power = "FROZEN" if live.running.frozen else "RUNNING"
        try:
            await self._shut_down(found.id, live, max(_number(found, "boot.host_shutdown_timeout", 30), 0))
            event = "container-shutdown"
        except NodeError:
            await live.running.kill()
            event = "container-stopped"
        await live.ended.wait()
        await self.host.report(found.id, STOPPED, event, power=power)

    # Members and profiles

    def reconcilers(self) -> list[Reconciler]:
        """Bring changes of containers and profiles to what runs here."""
        return self.profiles.reconcilers()

    async def settle(self, profile: str) -> None:
        """Returns when a changed profile is in force (see `Profiles.settle`)."""
        await self.profiles.settle(profile)

    def remove_member(self, draft: Draft, number: int) -> None:
        """Deletes the containers of a member that is removed by force: their data went with it."""
        for id, container in draft.all(CONTAINERS):
            if container.member == number:
                rules.forget(draft, id)

    # Parts of the work

    async def _apply(self, id: str, old: Expanded) -> None:
        await self.host.bring(id)
        new = self._get(id)
        before, after = (root_disk(one.devices)[1].get("size", "") for one in (old, new))
        if before != after:
            await self._data.set_quota(new.container, after or "0")

    async def _forget(self, id: str) -> None:
        await self._node.store.transact(
            lambda draft: rules.forget(draft, id), author=f"member:{self._node.member}", request="forget container"
        )

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
    async def exclusive(self, id: str, what: str) -> AsyncIterator[None]:
        """Holds a container for the block. One action at a time: another one is refused, not queued."""
        if (holder := self._node.locks.holder(id)) is not None:
            raise NodeError(f"Container is busy running a {holder} operation")
        if self._get(id).container.phase == "moving":
            raise NodeError("Container is busy running a move operation")
        async with self._node.locks.hold(id, what):
            yield


def new_id() -> str:
    """The id of a container that is about to be made."""
    return str(uuid.uuid4())


def _number(found: Expanded, key: str, default: int = 0) -> int:
    text = found.config.get(key, "")
    return parse_integer(text) if text else default


def _starts_with_daemon(found: Expanded) -> bool:
    wanted = found.config.get("boot.autostart", "")
    if found.container.phase != "created" or is_false(wanted):
        return False
    return is_true(wanted) or found.status.volatile.get("volatile.last_state.power") == "RUNNING"
