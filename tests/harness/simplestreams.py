"""A server that lists one image in simplestreams' way (spec/images.md 8), below a path of its own on a site.

Owns the lists and the files; refuses to serve them (`web.py` does)."""

import hashlib
import json
from typing import Any

from lxdnode.drivers.images import busybox
from tests.harness import web


class Streams:
    """The server at `url`, whose lists nobody knows yet. `fingerprint`: of the image; `paths`: of its files. `kind`:
    squashfs, or root.tar.xz."""

    def __init__(self, site: web.Web, path: str, kind: str = "squashfs") -> None:
        self.url = site.url + path
        halves = busybox.split(busybox.assemble(busybox.find_busybox(), padding=1), squashfs=kind == "squashfs")
        self.fingerprint = hashlib.sha256(b"".join(halves)).hexdigest()
        self.paths = [f"{path}/images/lxd.tar.xz", f"{path}/images/rootfs"]
        site.files |= dict(zip(self.paths, halves, strict=True))
        combined = {"squashfs": "combined_squashfs_sha256", "root.tar.xz": "combined_rootxz_sha256"}[kind]
        items = {
            "meta": {**_item("lxd.tar.xz", "images/lxd.tar.xz", halves[0]), combined: self.fingerprint},
            "root": _item(kind, "images/rootfs", halves[1]),
        }
        product = {
            "aliases": "bb/3.8,bb", "arch": "amd64", "os": "Busybox", "release": "3.8", "release_title": "3.8",
            "support_eol": "2030-05-01", "versions": {"20180720_13:00": {"items": items}, "short": {"items": items}},
        }  # fmt: skip
        listed = {"format": "products:1.0", "products": {"bb:3.8:amd64:default": product, "bad": {"arch": "z80"}}}
        entry = {"datatype": "image-downloads", "path": "streams/v1/images.json", "products": ["bb:3.8:amd64:default"]}
        site.files[f"{path}/streams/v1/index.json"] = json.dumps({"index": {"images": entry, "other": {}}}).encode()
        site.files[f"{path}/streams/v1/images.json"] = json.dumps(listed).encode()

    def source(self, **more: str) -> dict[str, str]:
        """The `source` of a request for the image."""
        return {"type": "image", "server": self.url, "protocol": "simplestreams", **more}


def _item(kind: str, path: str, content: bytes) -> dict[str, Any]:
    return {"ftype": kind, "path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
