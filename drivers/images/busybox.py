"""Builds the project's own image: a small system around one static busybox, for first steps, tests and benchmarks.

Owns what is in that image and that equal input gives equal bytes; refuses to need anything but busybox (and
sqfstar for a squashfs root)."""

import argparse
import gzip
import hashlib
import io
import os
import random
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

EPOCH = 1_700_000_000  # the date of every file: a build date would give each build a fingerprint of its own

# PID 1. ash runs a trap between two commands or within `wait`, hence the sleep in the background; `wait` also
# reaps the orphans that a container leaves to its init.
_INIT = """\
#!/bin/sh
trap 'exit 0' PWR TERM
trap 'reboot -f' INT
trap ':' HUP USR1 USR2
hostname -F /etc/hostname
ip link set lo up
for nic in /sys/class/net/eth*; do
    [ -e "$nic" ] || continue
    udhcpc -b -s /usr/share/udhcpc/default.script -t 10 -T 1 -A 5 -i "${nic##*/}" \\
        -x "hostname:$(hostname)" >/dev/null 2>&1 &
done
while :; do
    sleep 3600 &
    wait $!
done
"""

# What udhcpc calls with each event: gives the interface its lease.
_LEASE = """\
#!/bin/sh
case "$1" in
deconfig)
    ip -4 addr flush dev "$interface"
    ip link set "$interface" up
    ;;
bound | renew)
    ip -4 addr flush dev "$interface"
    ip addr add "$ip/${mask:-24}" broadcast "${broadcast:-+}" dev "$interface"
    for gateway in $router; do
        ip route add default via "$gateway" dev "$interface"
    done
    [ -z "$domain" ] || echo "search $domain" >/etc/resolv.conf.new
    for server in $dns; do
        echo "nameserver $server" >>/etc/resolv.conf.new
    done
    [ ! -e /etc/resolv.conf.new ] || mv /etc/resolv.conf.new /etc/resolv.conf
    ;;
esac
"""

_METADATA = """\
architecture: {architecture}
creation_date: {epoch}
properties:
  architecture: {architecture}
  description: Busybox {architecture}
  name: busybox-{architecture}
  os: Busybox
templates:
  /etc/hostname:
    when:
    - create
    - copy
    - rename
    template: hostname.tpl
  /etc/hosts:
    when:
    - create
    - copy
    - rename
    template: hosts.tpl
"""

_DIRECTORIES = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "mnt": 0o755, "opt": 0o755, "proc": 0o555,
    "root": 0o700, "run": 0o755, "sbin": 0o755, "sys": 0o555, "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755,
    "usr/sbin": 0o755, "usr/share": 0o755, "usr/share/udhcpc": 0o755, "var": 0o755, "var/log": 0o755,
    "var/tmp": 0o1777,
}  # fmt: skip

_FILES = {
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hostname": "busybox\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/os-release": "ID=busybox\nNAME=Busybox\n",
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/profile": "export PATH=/usr/sbin:/usr/bin:/sbin:/bin\n",
}

_TEMPLATES = {
    "hostname.tpl": "{{ container.name }}\n",
    "hosts.tpl": "127.0.0.1 localhost {{ container.name }}\n::1 localhost\n",
}


class NoBusybox(RuntimeError):
    """There is no statically linked busybox to build from."""


@dataclass(frozen=True)
class Entry:
    """A member of the archive: a directory (`content` is None), a file (bytes), or a link to `target`."""

    path: str
    mode: int = 0o755
    content: bytes | None = None
    target: str = ""


@dataclass(frozen=True)
class Parts:
    """The two halves of an image: metadata with templates, and the root file system (paths without `rootfs/`)."""

    metadata: tuple[Entry, ...]
    root: tuple[Entry, ...]


def assemble(busybox: Path, *, epoch: int = EPOCH, padding: int = 0, seed: int = 1) -> Parts:
    """The entries of an image around the given busybox.

    `padding`: MiB of bytes that do not compress, drawn from `seed`: another seed, another fingerprint."""
    content = busybox.read_bytes()
    if content[:4] != b"\x7fELF" or b"/ld-linux" in content:
        raise NoBusybox(f"{busybox} is not a static busybox: install busybox-static, or name another one")
    metadata = _METADATA.format(architecture=os.uname().machine, epoch=epoch)
    return Parts(
        metadata=(
            Entry("metadata.yaml", 0o644, metadata.encode()),
            Entry("templates"),
            *(Entry(f"templates/{name}", 0o644, text.encode()) for name, text in _TEMPLATES.items()),
        ),
        root=tuple(_root(busybox, content, padding, seed)),
    )


def _root(busybox: Path, content: bytes, padding: int, seed: int) -> Iterator[Entry]:
    yield from (Entry(path, mode) for path, mode in _DIRECTORIES.items())
    yield from (Entry(path, 0o644, text.encode()) for path, text in _FILES.items())
    yield Entry("bin/busybox", 0o755, content)
    for applet in _applets(busybox):
        yield Entry(applet, 0o777, target="/bin/busybox")
    yield Entry("sbin/init", 0o755, _INIT.encode())
    yield Entry("usr/share/udhcpc/default.script", 0o755, _LEASE.encode())
    if padding:
        yield Entry("var/padding", 0o644, random.Random(seed).randbytes(padding << 20))


def _applets(busybox: Path) -> list[str]:
    """Paths of busybox's commands, without those that would stand in the way of ours."""
    listed = subprocess.run([busybox, "--list-full"], capture_output=True, text=True, check=True)
    return sorted(path for path in listed.stdout.split() if path not in ("sbin/init", "linuxrc", "bin/busybox"))


def archive(entries: Iterable[Entry], *, prefix: str = "", epoch: int = EPOCH) -> bytes:
    """A tar of the entries, owned by root, dated `epoch`, in the order of their paths."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for entry in sorted(entries, key=lambda entry: (entry.path != "metadata.yaml", entry.path)):
            member = tarfile.TarInfo(prefix + entry.path)
            member.mode, member.mtime = entry.mode, epoch
            member.uname = member.gname = "root"
            if entry.target:
                member.type, member.linkname = tarfile.SYMTYPE, entry.target
            elif entry.content is None:
                member.type = tarfile.DIRTYPE
            else:
                member.size = len(entry.content)
            tar.addfile(member, io.BytesIO(entry.content or b""))
    return out.getvalue()


def unified(parts: Parts, *, compress: bool = True) -> bytes:
    """One tarball with `metadata.yaml`, `templates/` and `rootfs/`."""
    root = (Entry(f"rootfs/{entry.path}", entry.mode, entry.content, entry.target) for entry in parts.root)
    content = archive((*parts.metadata, Entry("rootfs"), *root))
    # The header's time is 0 and no name is in it, so that it depends on the content alone.
    return gzip.compress(content, compresslevel=6, mtime=0) if compress else content


def split(parts: Parts, *, squashfs: bool = False) -> tuple[bytes, bytes]:
    """The metadata tarball and the root file system, as a tarball or a squashfs."""
    root = archive(parts.root)
    metadata = gzip.compress(archive(parts.metadata), mtime=0)
    return metadata, _squash(root) if squashfs else gzip.compress(root, mtime=0)


def _squash(root: bytes) -> bytes:
    times = ("-mkfs-time", str(EPOCH), "-all-time", str(EPOCH), "-root-mode", "0755")
    with tempfile.TemporaryDirectory(prefix="lxd-node-") as scratch:
        out = Path(scratch, "root.squashfs")
        command = ["sqfstar", "-quiet", "-no-progress", *times, str(out)]
        subprocess.run(command, input=root, check=True, stdout=subprocess.DEVNULL)
        return out.read_bytes()


def find_busybox() -> Path:
    """The host's busybox. NoBusybox when there is none."""
    found = os.environ.get("BUSYBOX") or shutil.which("busybox")
    if found is None:
        raise NoBusybox("no busybox on this host: install busybox-static")
    return Path(found)


def main() -> None:
    """`scripts/build-image`: writes the image and prints fingerprint and file names."""
    parser = argparse.ArgumentParser(prog="build-image", description="Build the busybox image.")
    parser.add_argument(
        "out", type=Path, help="the image, or its metadata half; a name that ends in .tar is not compressed"
    )
    parser.add_argument("--rootfs", type=Path, help="build a split image; .squashfs or .tar.gz")
    parser.add_argument("--busybox", type=Path, help="a static busybox (default: the one on PATH)")
    parser.add_argument("--pad", type=int, default=0, metavar="MIB", help="add bytes that do not compress")
    parser.add_argument("--seed", type=int, default=1, help="of the padding: another seed, another fingerprint")
    options = parser.parse_args()
    parts = assemble(options.busybox or find_busybox(), padding=options.pad, seed=options.seed)
    if options.rootfs is None:
        files = {options.out: unified(parts, compress=options.out.suffix != ".tar")}
    else:
        halves = split(parts, squashfs=options.rootfs.suffix == ".squashfs")
        files = dict(zip((options.out, options.rootfs), halves, strict=True))
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    print(hashlib.sha256(b"".join(files.values())).hexdigest(), *files)


if __name__ == "__main__":
    main()
