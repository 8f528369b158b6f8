"""What lists of simplestreams mean: which versions count, and who has a name (spec/images.md 8)."""

import msgspec
import pytest

from lxdnode.node.errors import NodeError
from lxdnode.node.images.simplestreams import Listing, Products, listing

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
SERVER = "https://images.example"


def version(**combined: str) -> dict[str, object]:
    """A version with both kinds of root file system."""
    return {
        "items": {
            "1": {"ftype": "lxd.tar.xz", "path": "d/lxd.tar.xz", "size": 10, "sha256": "m", **combined},
            "2": {"ftype": "root.tar.xz", "path": "d/root.tar.xz", "size": 30, "sha256": "t"},
            "3": {"ftype": "squashfs", "path": "d/root.squashfs", "size": 20, "sha256": "s"},
            "4": {"ftype": "disk1.img", "path": "d/disk1.img", "size": 99, "sha256": "d"},
        }
    }


def read(*products: dict[str, object], server: str = SERVER) -> Listing:
    named = {str(number): product for number, product in enumerate(products)}
    return listing(server, [msgspec.convert({"products": named}, Products)])


def product(aliases: str = "x", arch: str = "amd64", **more: object) -> dict[str, object]:
    return {"aliases": aliases, "arch": arch, "os": "X", "release": "1", **more}


def test_a_squashfs_comes_before_a_tarball_and_its_own_hash_before_the_common_one() -> None:
    versions = {"20180720": version(combined_squashfs_sha256=A, combined_rootxz_sha256=B, combined_sha256=C)}
    found = read(product(versions=versions)).find("x")
    assert (found.fingerprint, found.size) == (A, 30)
    assert [(file.part, file.url, file.sha256) for file in found.files] == [
        ("metadata", f"{SERVER}/d/lxd.tar.xz", "m"),
        ("rootfs", f"{SERVER}/d/root.squashfs", "s"),
    ]
    common = {"20180720": version(combined_rootxz_sha256=B, combined_sha256=C)}
    assert read(product(versions=common)).find("x").fingerprint == C
    tarball = {"20180720": version(combined_rootxz_sha256=B)}
    assert read(product(versions=tarball)).find("x").files[1].sha256 == "t"


def test_the_newest_has_the_name_and_the_others_are_found_by_fingerprint() -> None:
    versions = {f"2018072{day}": version(combined_sha256=one) for day, one in ((1, A), (3, B), (2, C))}
    found = read(product(aliases="x,y/z", versions=versions))
    assert {name: found.find(name).fingerprint for name in ("x", "x/amd64", "y/z", "aaa", C)} == {
        "x": B, "x/amd64": B, "y/z": B, "aaa": A, C: C,
    }  # fmt: skip


def test_a_bare_name_is_of_this_machines_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    arm = product(arch="arm64", versions={"20200101": version(combined_sha256=A)})
    intel = product(versions={"20180101": version(combined_sha256=B)})
    found = read(arm, intel)
    assert found.find("x").fingerprint == B
    assert found.find("x/arm64").fingerprint == A


def test_what_cannot_be_an_image_is_left_out() -> None:
    no_root = {"items": {"1": {"ftype": "lxd.tar.xz", "path": "p", "size": 1, "sha256": "m", "combined_sha256": A}}}
    versions = {
        "2018": version(combined_sha256=A),
        "notadate": version(combined_sha256=A),
        "20180101": version(),
        "20180102": version(combined_sha256="../../etc/passwd"),
        "20180103": no_root,
        "20180104": {"items": {}},
    }
    found = read(product(versions=versions), product(arch="z80", versions={"20180101": version(combined_sha256=A)}))
    assert (found.images, found.aliases) == ({}, {})


def test_what_is_not_there_or_not_clear_is_refused_in_lxds_words() -> None:
    versions = {"20180101": version(combined_sha256="1" + A[1:]), "20180102": version(combined_sha256="1" + B[1:])}
    found = read(product(versions=versions))
    with pytest.raises(NodeError, match="^Provided partial image fingerprint matches more than one image$"):
        found.find("1")
    for name in ("2", ""):
        with pytest.raises(NodeError, match="^The requested image couldn't be found.$"):
            found.find(name)


def test_ubuntus_names_lose_their_prefix() -> None:
    versions = {"20180101": version(combined_sha256=A)}
    ubuntu = read(product(aliases="ubuntu/18.04,18.04", versions=versions), server="https://cloud-images.ubuntu.com/x")
    assert "ubuntu/18.04" not in ubuntu.aliases and ubuntu.find("18.04").fingerprint == A
    assert "ubuntu/18.04" in read(product(aliases="ubuntu/18.04", versions=versions)).aliases
