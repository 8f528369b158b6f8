"""Real LXC containers for the tests of the runtime, from the project's own busybox image."""

import os
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trio

from lxdnode.drivers.host.cgroup import MOUNTS, detect
from lxdnode.drivers.host.idmap import IdMap, host_range
from lxdnode.drivers.images.busybox import NoBusybox, archive, assemble, find_busybox
from lxdnode.drivers.runtime.attach import Command, attach
from lxdnode.drivers.runtime.configure import Configuration, group_names
from lxdnode.drivers.runtime.containers import Containers, Running
from lxdnode.drivers.runtime.spawning import open_spawner


@pytest.fixture(scope="session")
def busybox_root() -> Iterator[Path]:
    """An unpacked busybox root file system, owned by root."""
    try:
        content = archive(assemble(find_busybox()).root)
    except NoBusybox as error:
        pytest.skip(str(error))
    directory = Path(tempfile.mkdtemp(prefix="lxd-node-root-"))
    with tarfile.open(fileobj=BytesIO(content)) as tar:
        tar.extractall(directory)
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


class RuntimeHost:
    """Containers below a directory of its own, which all end with the test."""

    def __init__(self, directory: Path, containers: Containers, root: Path) -> None:
        self.directory = directory
        self.containers = containers
        self._root = root
        self._started: dict[str, Running] = {}

    def configure(self, name: str = "c1", *, privileged: bool = False, **fields: Any) -> Configuration:
        """A configuration with a fresh root file system, idmapped unless it is privileged."""
        home = self.containers.directory / name
        if not home.exists():
            shutil.copytree(self._root, home / "rootfs", symlinks=True)
            home.chmod(0o755)
        host = host_range()
        assert host is not None, "root has no subordinate ids"
        entries: IdMap = () if privileged else host.whole()
        files = {field: self.directory / f"{name}.{field}" for field in ("log", "console", "stopped")}
        group = f"{name}.{uuid4().hex[:8]}"
        return Configuration(
            name=name, rootfs=home / "rootfs", group=group, idmap=entries, idmapped=True, **files, **fields
        )

    async def start(self, configuration: Configuration) -> Running:
        """Starts it; the test's end kills it."""
        running = await self.containers.start(configuration, self.directory / f"{configuration.name}.conf")
        self._started[configuration.name] = running
        return running

    async def run(self, name: str, *command: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
        """Exit status and output of a command in a container."""
        reading, writing = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            with await self.attach(name, *command, streams=(nothing, writing, writing), environment=environment) as ran:
                os.close(writing)
                async with trio.lowlevel.FdStream(reading) as stream:
                    output = b"".join([chunk async for chunk in stream])
                return await ran.wait(), output.decode()
        finally:
            os.close(nothing)

    async def attach(
        self,
        name: str,
        *command: str,
        streams: tuple[int, int, int],
        environment: dict[str, str] | None = None,
    ) -> Command:
        """A command that runs in a container."""
        return await attach(
            self.containers.spawner,
            self.containers.directory,
            name,
            command,
            streams,
            groups=self._started[name].groups,
            configuration=self.directory / f"{name}.conf",
            environment=environment or {},
            working_directory="/root",
        )

    async def end(self) -> None:
        """Kills what still runs, and looks that nothing stays."""
        for running in self._started.values():
            await running.kill()
            await running.ended()


def _make_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="lxd-node-runtime-"))
    directory.chmod(0o755)  # An unprivileged container walks through it.
    (directory / "containers").mkdir()
    return directory


@pytest.fixture
async def runtime(busybox_root: Path) -> AsyncIterator[RuntimeHost]:
    """A host with a spawner. Skipped where LXC cannot run."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    directory = _make_directory()
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, directory)
        spawner = await stack.enter_async_context(open_spawner())
        host = RuntimeHost(directory, Containers(spawner, detect(), directory / "containers"), busybox_root)
        stack.push_async_callback(host.end)
        yield host


async def within(seconds: float, condition: Callable[[], bool]) -> None:
    """Waits until the condition holds, which has no event of its own."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


def left_groups(configuration: Configuration) -> list[Path]:
    """The control groups of a container that still exist."""
    return [path for name in group_names(configuration.group) for path in MOUNTS.glob(f"*/{name}")]
