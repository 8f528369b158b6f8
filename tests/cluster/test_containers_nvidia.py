"""nvidia.runtime with LXC's real hook and a stand-in for NVIDIA's tool: what the driver's files would be is one file.

The machine of the tests has no such card; seen are the hook's call in the container's namespaces and its effect."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.daemons import ApiError, Daemon

pytestmark = pytest.mark.slow

_HOOK = Path("/usr/share/lxc/hooks/nvidia")
_TOOL = """#!/bin/sh
# The last argument is the root file system, as for the real tool.
for last in "$@"; do :; done
mkdir -p "$last/usr/bin" && echo "$@" >"$last/usr/bin/nvidia-smi"
"""


@pytest.fixture
def tools(server: Daemon, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory in the daemon's PATH, and the daemon started with it."""
    folder = directory / "tools"
    folder.mkdir(mode=0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    server.kill()
    server.start().wait_ready()
    yield folder
    monkeypatch.undo()
    server.kill()
    server.start().wait_ready()


@pytest.mark.skipif(not _HOOK.exists(), reason="LXC's hook for NVIDIA is not installed")
@pytest.mark.extension("nvidia_runtime")
def test_the_drivers_files_come_in_by_the_hook(server: Daemon, image: bytes, tools: Path) -> None:
    fingerprint = server.ask("POST", "/1.0/images", image)["metadata"]["fingerprint"]
    source = {"type": "image", "fingerprint": fingerprint}
    server.post("/1.0/containers", {"name": "card", "source": source, "config": {"nvidia.runtime": "true"}})
    try:
        with pytest.raises(ApiError, match=r"^The NVIDIA container tools couldn't be found$"):
            server.put("/1.0/containers/card/state", {"action": "start"})
        (tools / "nvidia-container-cli").write_text(_TOOL)
        (tools / "nvidia-container-cli").chmod(0o755)
        server.put("/1.0/containers/card/state", {"action": "start"})
        called = server.lxc("exec", "-T", "card", "--", "cat", "/usr/bin/nvidia-smi").stdout.decode()
        assert "configure" in called and "--compute" in called and "--utility" in called
        shown = server.lxc("exec", "-T", "card", "--", "cat", "/proc/1/environ").stdout
        assert b"NVIDIA_VISIBLE_DEVICES=none\0" in shown
    finally:
        server.lxc("delete", "--force", "card")
