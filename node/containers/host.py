"""The containers that run on this member: started, found again, watched until they end, and reported.

Owns what is known of running processes and the `status` documents that say so; refuses to ask whether a client may
do it and to hold locks (`containers.py` does). What runs is read from /proc alone, at each start of the daemon."""

import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog
import trio

from lxdnode.drivers.config.kinds import is_true
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host import idmap, modules
from lxdnode.drivers.host.apparmor import AppArmor
from lxdnode.drivers.host.cgroup import detect, remove
from lxdnode.drivers.host.idmapped import mount, unmount
from lxdnode.drivers.images import templates
from lxdnode.drivers.runtime.configure import Configuration, group_names
from lxdnode.drivers.runtime.containers import Containers as Runtime
from lxdnode.drivers.runtime.containers import Running
from lxdnode.drivers.runtime.files import Root
from lxdnode.drivers.runtime.spawning import open_spawner
from lxdnode.drivers.undo import Undo
from lxdnode.node.cluster.rules import member as find_member
from lxdnode.node.containers import guest, rules, starting, volatile
from lxdnode.node.containers.checkpoints import Checkpoints
from lxdnode.node.containers.expansion import Expanded, expand
from lxdnode.node.containers.hotplug import Hotplug
from lxdnode.node.containers.live import Live, load, load_applied, save, save_applied
from lxdnode.node.containers.owners import Owners
from lxdnode.node.containers.plugging import Plugging, for_lxc
from lxdnode.node.containers.records import CONTAINERS, FROZEN, KIND, RUNNING, STOPPED
from lxdnode.node.containers.resources import Resources
from lxdnode.node.containers.unreported import UNREPORTED, Unreported
from lxdnode.node.documents import Draft
from lxdnode.node.errors import NodeError, NotFound, Unavailable

if TYPE_CHECKING:
    from lxdnode.node.node import Node

log = structlog.get_logger(__name__)
_RETRY = 2.0
"""Seconds between two tries to report a state while there is no quorum."""


class Host:
    """What runs here, once `found` is set. `on_end(id, live)` is called for a container that ended by itself,
    `serve_guest(id, live)` answers what one asks about itself while it runs (the API sets it)."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self.layout = detect()
        self.range = idmap.host_range()
        self.apparmor = AppArmor(node.directory)
        self.checkpoints = Checkpoints(node, self)
        self.owners = Owners(node, self)
        self.runtime: Runtime
        self.on_end = self._forget
        self.serve_guest: Callable[[str, Live], Awaitable[None]]
        self._live: dict[str, Live] = {}
        self.found = trio.Event()
        self.plugging = Plugging(node)
        self._resources = Resources(node, self.layout, self._live)
        self._hotplug = Hotplug(self._live, self.apply)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps the spawner and watches what runs, until cancelled; containers go on after it."""
        directory = self._node.directory / "containers"
        directory.mkdir(mode=0o711, exist_ok=True)
        _raise_file_limit()
        async with open_spawner() as spawner, trio.open_nursery() as nursery:
            self.runtime = Runtime(spawner, self.layout, directory)
            self._nursery = nursery
            await self._find()
            self.found.set()
            task_status.started()
            await self._hotplug.run()

    def live(self, id: str) -> Live | None:
        """A container that runs, or None."""
        return self._live.get(id)

    def all(self) -> dict[str, Live]:
        """All that run, by id."""
        return dict(self._live)

    def paths(self, name: str) -> starting.Paths:
        """The files of a container."""
        return starting.Paths(self._node.directory, name)

    def forget(self, name: str) -> None:
        """Removes what only a container that exists has; logs stay until they expire, or another gets the name."""
        self.paths(name).remove()
        self.apparmor.remove(name)

    def rename(self, old: str, new: str) -> None:
        """Moves the logs of a container to another name."""
        self.paths(old).rename(self.paths(new))
        self.apparmor.remove(old)

    def volume(self, found: Expanded) -> Path:
        """The directory of a container's volume, which holds rootfs."""
        return self._node.storage.container_path(found.container.pool, found.name)

    @property
    def place(self) -> rules.Place:
        """This member, as containers are made on it."""
        member = find_member(self._node.store.view(), self._node.member)
        return rules.Place(self._node.member, member.incarnation if member else 0, self.range)

    async def start(self, id: str, event: str = "container-started", *, stateful: bool = False) -> None:
        """Starts a container that does not run, and reports it; `stateful`: its processes go on from the state that is
        kept. DriverError; nothing of it runs then, and its state is still kept."""
        await self._fill_in(id)
        found = expand(self._node.store.view(), id)
        paths, rootfs = self.paths(found.name), self.volume(found) / "rootfs"
        await modules.load(found.config.get("linux.kernel_modules", ""))
        await trio.to_thread.run_sync(paths.make)
        idmapped, disk = await self.owners.prepare(found, rootfs)
        if not stateful:
            await trio.to_thread.run_sync(self._apply_templates, found, rootfs, disk)
        chosen = self._resources.balance({id: found.config.get("limits.cpu", "")})
        async with Undo() as undo:
            undo.add(f"remove the devices of {found.name}", self.plugging.clean, found.name)
            plugged = await trio.to_thread.run_sync(self.plugging.prepare, found)
            configuration = starting.configure(
                found,
                paths,
                rootfs,
                idmapped=idmapped,
                limits=self._resources.of_start(found.config, found.devices, rootfs, chosen.get(id, "")),
                parts=for_lxc(plugged),
                apparmor=self.apparmor,
            )
            undo.add(f"unload the AppArmor profile of {found.name}", self.apparmor.unload, found.name)
            await self.apparmor.load(starting.confine(found.name, found.config))
            listening = guest.listen(paths.devlxd)
            undo.add("close the socket", listening.close)
            save(paths.plugged, plugged)
            paths.starting.touch()
            if stateful:
                running = await self._restore(configuration, paths, self.checkpoints.folder(id))
            else:
                running = await self.runtime.start(configuration, paths.configuration)
            live = Live(running, found, plugged, listening)
            undo.add(f"kill {found.name}", self._kill, live)
            self._watch(id, live)
            await self.plugging.settle(found, live)
            save_applied(paths.applied, live)
        self._resources.write_cpus({other: cpus for other, cpus in chosen.items() if other != id})
        await self.checkpoints.forget(id)
        await self.report(id, RUNNING, event, started=True, disk=disk)
        paths.starting.unlink(missing_ok=True)  # It may have ended already.

    async def _restore(self, configuration: Configuration, paths: starting.Paths, state: Path) -> Running:
        """liblxc makes no idmapped root for processes that are restored: it finds one."""
        if not (configuration.idmapped and configuration.idmap):
            return await self.runtime.start(configuration, paths.configuration, state)
        rootfs, mapped = configuration.rootfs, replace(configuration, rootfs=paths.mapped, idmapped=False)
        try:
            await trio.to_thread.run_sync(mount, rootfs, paths.mapped, configuration.idmap)
            return await self.runtime.start(mapped, paths.configuration, state)
        finally:
            unmount(paths.mapped)

    async def _kill(self, live: Live) -> None:
        """Ends a container whose start did not end well."""
        live.busy = True
        await live.running.kill()
        await live.ended.wait()

    def _apply_templates(self, found: Expanded, rootfs: Path, disk: str) -> None:
        """Writes the templates that are due."""
        pending = found.status.volatile.get("volatile.apply_template")
        container = {
            "name": found.name,
            "architecture": found.container.architecture,
            "privileged": str(is_true(found.config.get("security.privileged"))).lower(),
            "ephemeral": str(found.container.ephemeral).lower(),
        }
        with Root(rootfs, idmap.decode(disk)) as root:
            triggers = [*([pending] if pending else []), "start"]
            templates.apply(rootfs.parent, root, triggers, templates.Context(container, found.config, found.devices))

    async def _fill_in(self, id: str) -> None:
        """Gives a container what it lacks for a start. Without a quorum it starts when it lacks nothing."""
        try:
            await self._transact("start", lambda draft: rules.complete(draft, id, self.place))
        except Unavailable:
            draft = Draft(self._node.log.state)
            rules.complete(draft, id, self.place)
            if not draft.is_empty:
                raise

    async def report(
        self,
        id: str,
        state: str,
        event: str = "",
        *,
        started: bool = False,
        disk: str | None = None,
        power: str = "",
        stateful: bool = False,
    ) -> None:
        """Commits how a container is now. While there is no quorum the host is right and the report follows later.

        `disk`: the map that its files are shifted by, at a start. `power`: `last_state.power`, which says whether it
        starts with the daemon, if not by the state. `stateful`: the state of its processes is kept."""
        now = time.time() if started else None
        power = power or ("STOPPED" if state == STOPPED else "RUNNING")
        extra: dict[str, str | None] = {"last_state__power": power}
        if disk is not None:
            extra |= {"last_state__idmap": disk, "apply_template": None}
        known = self._node.notes.get(UNREPORTED, id, Unreported) or Unreported(state)
        report = known.followed_by(state, event, now, extra, stateful)
        try:
            await self._commit_report(id, report)
        except Unavailable:
            log.warning("state not reported yet", container=id, state=state)
            self._node.notes.put(UNREPORTED, id, report)
            self._nursery.start_soon(self._report_later, id)

    async def _commit_report(self, id: str, report: Unreported) -> None:
        try:
            await self._transact(report.state, lambda draft: report.write(draft, id))
        except NotFound:
            log.info("a container is gone before its state was reported", container=id)
        self._node.notes.delete(UNREPORTED, id)

    async def _report_later(self, id: str) -> None:
        """Until it is committed, by whichever report comes first. What runs is right, whatever was noted."""
        while (report := self._node.notes.get(UNREPORTED, id, Unreported)) is not None:
            await trio.sleep(_RETRY)
            try:
                await self._commit_report(id, msgspec.structs.replace(report, state=self.state(id)))
            except Unavailable:
                continue

    def state(self, id: str) -> str:
        """How a container is, by its processes."""
        live = self._live.get(id)
        if live is None or not live.running.alive:
            return STOPPED
        return FROZEN if live.running.frozen else RUNNING

    async def apply(self, id: str) -> None:
        """As `bring`, by whoever notices that documents have changed."""
        async with self.alone(id):
            await self.bring(id)

    @asynccontextmanager
    async def alone(self, id: str) -> AsyncIterator[None]:
        """Nobody else brings a running container to its documents during the block: what a change writes and takes
        back, as the host refuses it, is not plugged by a reconciler meanwhile."""
        live = self._live.get(id)
        if live is None:
            yield
        else:
            async with live.lock:
                yield

    async def bring(self, id: str) -> None:
        """Brings AppArmor profile, limits and devices of a running container to what its documents say. Within
        `alone`. DriverError: profile, limits and the device that failed are as they were."""
        live = self._live.get(id)
        if live is None:
            return
        if live.ended.is_set():
            return
        found = await self._complete(id)
        if found.config.get("linux.kernel_modules") != live.applied.get("linux.kernel_modules"):
            await modules.load(found.config.get("linux.kernel_modules", ""))
        await self._restrict(found, live)
        before, live.applied = live.applied, found.config
        if found.devices != live.wanted:
            live.wanted = found.devices
            self._hotplug.look_again()
        save_applied(self.paths(found.name).applied, live)
        live.guest.config(before, found.config)
        if before.get("limits.cpu") != found.config.get("limits.cpu"):
            self._resources.write_cpus(self._resources.balance({}))
        await self.plugging.bring(found, live)

    async def check(self, id: str) -> None:
        """Looks at what only the next start of a container of this member acts upon: its id map, raw.lxc, and while it
        is stopped its AppArmor profile. NodeError or DriverError with LXD's words."""
        found = expand(self._node.store.view(), id)
        rules.complete(Draft(self._node.log.state), id, self.place)
        if found.config.get("raw.apparmor") and id not in self._live:
            await self.apparmor.check(starting.confine(found.name, found.config))
        await self.check_raw(found.config.get("raw.lxc", ""))

    async def check_raw(self, lines: str) -> None:
        """Lets liblxc read raw.lxc. NodeError with LXD's words."""
        try:
            if lines:
                await self.runtime.check(lines)
        except DriverError:
            raise NodeError("Failed to load raw.lxc") from None

    async def _restrict(self, found: Expanded, live: Live) -> None:
        async with Undo() as undo:
            if any(found.config.get(key) != live.applied.get(key) for key in starting.CONFINING):
                before = starting.confine(found.name, live.applied)
                undo.add("put the AppArmor profile back", self.apparmor.load, before)
                await self.apparmor.load(starting.confine(found.name, found.config))
            self._resources.apply(live, found.config, found.devices, self.volume(found) / "rootfs")

    async def _complete(self, id: str) -> Expanded:
        """The container with the names and addresses of its nics: one that a profile brings has none yet."""
        found = expand(self._node.store.view(), id)
        if volatile.lacks_any(found.status.volatile, found.devices):
            await self._transact("plug", lambda draft: rules.complete(draft, id, self.place))
            return expand(self._node.store.view(), id)
        return found

    def _watch(self, id: str, live: Live) -> None:
        self._live[id] = live
        self._hotplug.look_again()
        self._nursery.start_soon(self._serve, id, live)
        self._nursery.start_soon(self._await_end, id, live)

    async def _serve(self, id: str, live: Live) -> None:
        """Answers what the container asks about itself."""
        with live.listening, live.serving:
            await self.serve_guest(id, live)

    async def _await_end(self, id: str, live: Live) -> None:
        """Waits for the end of a container, and sees to what follows unless an operation does."""
        try:
            live.target = await live.running.ended()
        except DriverError as error:
            log.error("container cannot be ended", container=live.running.name, error=str(error))
            return
        live.serving.cancel()
        await self._clean(live)
        if self._live.get(id) is live:
            del self._live[id]
        live.ended.set()
        self._resources.write_cpus(self._resources.balance({}))
        if not live.busy:
            await self.on_end(id, live)

    async def _clean(self, live: Live) -> None:
        try:
            await self.plugging.end(live)
        except DriverError as error:
            log.error("devices not taken back", container=live.running.name, error=str(error))
        await self._unconfine(live.running.name)

    async def _unconfine(self, name: str) -> None:
        try:
            await trio.to_thread.run_sync(self.apparmor.unload, name)
        except OSError as error:
            log.error("AppArmor profile not unloaded", container=name, error=error.strerror)

    async def _forget(self, id: str, live: Live) -> None:
        await self.report(id, STOPPED)

    async def _find(self) -> None:
        """Takes up what runs already, and reports what started or stopped while no daemon looked."""
        view = self._node.store.view()
        for name, pid in await trio.to_thread.run_sync(lambda: list(self.runtime.scan())):
            id = view.find(KIND, name)
            container = None if id is None else view.get(CONTAINERS, id)
            running = self.runtime.hold(name, pid, self.paths(name).stopped)
            if running is None:
                continue
            if id is None or container is None or container.member != self._node.member:
                log.warning("a container runs that this member does not know", container=name, pid=pid)
                continue
            await self._take_up(expand(view, id), running)
        running_now = {live.running.name for live in self._live.values()}
        await trio.to_thread.run_sync(self.plugging.clean_all, running_now)
        for id, container in view.all(CONTAINERS):
            if container.member == self._node.member and id not in self._live and rules.is_running(view, id):
                self._nursery.start_soon(self._report_gone, id)
        for id, _ in list(self._node.notes.all(UNREPORTED, Unreported)):
            self._nursery.start_soon(self._report_later, id)

    async def _take_up(self, found: Expanded, running: Running) -> None:
        """Goes on with a container that runs. One whose start was cut short has not all that it should, and nobody
        waits for it: it is ended."""
        id, paths = found.id, self.paths(found.name)
        live = Live(running, found, load(paths.plugged), guest.listen(paths.devlxd))
        if (noted := load_applied(paths.applied)) is not None:
            live.applied, live.wanted = noted.config, noted.devices
        self._watch(id, live)
        if paths.starting.exists():
            await self._kill(live)
        elif found.status.state != self.state(id):
            await self.report(id, self.state(id))

    async def _report_gone(self, id: str) -> None:
        """It stopped while no daemon looked: `last_state.power` stays, so that it starts with the daemon."""
        container = self._node.store.view().get(CONTAINERS, id)
        try:
            if container is not None:
                await trio.to_thread.run_sync(remove, self.layout, group_names(starting.group(container.name, id)))
                await self._unconfine(container.name)
            await self._transact("found stopped", lambda draft: rules.transition(draft, id, STOPPED))
        except (NodeError, DriverError) as error:
            log.warning("state not reported yet", container=id, error=str(error))
            self._node.notes.put(UNREPORTED, id, Unreported(STOPPED))
            self._nursery.start_soon(self._report_later, id)

    async def _transact(self, request: str, rule) -> None:  # type: ignore[no-untyped-def]
        await self._node.store.transact(rule, author=f"member:{self._node.member}", request=request)


def _raise_file_limit() -> None:
    """Lets this process, and so containers, open as many files as the administrator allows: two pidfds a container
    would use up the usual 1024 soon."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
