"""The configuration keys of pools and volumes, with what each driver takes of them (spec/storage.md 2 and 5).

Owns LXD's words for a key that does not exist, does not fit its driver, or cannot be changed; refuses to act."""

from collections.abc import Iterable, Mapping

from lxdnode.drivers.config.key import InvalidKey, Key, Table
from lxdnode.drivers.config.kinds import boolean, is_false, one_of, size

DRIVERS = ("btrfs", "ceph", "dir", "lvm", "zfs")
_FILESYSTEM = one_of("btrfs", "ext4", "xfs")

POOL = Table(
    "Invalid storage pool configuration key: {key}",
    [
        Key("size", size, member=True, doc="Size of the loop file; bytes with a unit."),
        Key("source", member=True, doc="Directory, block device, volume group, dataset or OSD pool."),
        Key("volatile.initial_source", member=True, extension="storage_volatile_initial_source",
            doc="What the client gave as source."),
        Key("volatile.pool.pristine", extension="storage_driver_ceph", doc="The OSD pool was made by us."),
        Key("btrfs.mount_options", default="user_subvol_rm_allowed", live=True,
            extension="storage_btrfs_mount_options", doc="Mount options of the pool."),
        Key("ceph.cluster_name", default="ceph", extension="storage_driver_ceph", doc="The cluster's name."),
        Key("ceph.osd.force_reuse", boolean, extension="storage_ceph_force_osd_reuse",
            doc="Use an OSD pool that another server has marked."),
        Key("ceph.osd.pg_num", size, default="32", extension="storage_driver_ceph", doc="Placement groups."),
        Key("ceph.osd.pool_name", extension="storage_driver_ceph", doc="The OSD pool; else the pool's name."),
        Key("ceph.rbd.clone_copy", boolean, default="true", extension="storage_driver_ceph",
            doc="Clone instead of copying in full."),
        Key("ceph.user.name", default="admin", extension="storage_ceph_user_name", doc="The Ceph user."),
        Key("lvm.thinpool_name", default="LXDThinPool", live=True, extension="storage_lvm_thinpool_rename",
            doc="The thin pool's name."),
        Key("lvm.use_thinpool", boolean, default="true", extension="storage_lvm_use_thinpool",
            doc="Thin or plain volumes."),
        Key("lvm.vg_name", member=True, live=True, extension="storage_lvm_vg_rename", doc="The volume group."),
        Key("rsync.bwlimit", size, default="0", live=True, extension="storage_rsync_bwlimit",
            doc="Limit of copies, as rsync's --bwlimit takes it."),
        Key("volume.block.filesystem", _FILESYSTEM, default="ext4", live=True,
            extension="storage_block_filesystem_btrfs", doc="File system of new volumes."),
        Key("volume.block.mount_options", default="discard", live=True, doc="Mount options of new volumes."),
        Key("volume.size", size, default="10GB", live=True, doc="Size of new volumes."),
        Key("volume.zfs.remove_snapshots", boolean, live=True, doc="A restore may remove newer snapshots."),
        Key("volume.zfs.use_refquota", boolean, live=True, doc="Quotas leave snapshots out."),
        Key("zfs.clone_copy", boolean, default="true", live=True, extension="storage_zfs_clone_copy",
            doc="Clone instead of sending."),
        Key("zfs.pool_name", member=True, doc="The zpool or dataset; else the pool's name."),
        Key("user.*", live=True, doc="Anything."),
    ],
)  # fmt: skip

VOLUME = Table(
    "Invalid storage volume configuration key: {key}",
    [
        Key("size", size, live=True, doc="Size; bytes with a unit."),
        Key("block.filesystem", _FILESYSTEM, extension="storage_block_filesystem_btrfs", doc="File system."),
        Key("block.mount_options", live=True, doc="Mount options, at the next mount."),
        Key("zfs.remove_snapshots", boolean, live=True, doc="A restore may remove newer snapshots."),
        Key("zfs.use_refquota", boolean, live=True, doc="The quota leaves snapshots out."),
        Key("volatile.idmap.last", doc="Owners of the files as they are, as a map."),
        Key("volatile.idmap.next", doc="Owners of the files as the next start wants them."),
        Key("user.*", live=True, doc="Anything."),
    ],
)

# A key, or the family below a prefix, that only some drivers take; every driver takes the others.
_POOL_DRIVERS = {
    "size": ("btrfs", "lvm", "zfs"),
    "lvm.": ("lvm",),
    "volume.block.": ("lvm", "ceph"),
    "volume.size": ("lvm", "ceph"),
    "volume.zfs.": ("zfs",),
    "zfs.": ("zfs",),
    "ceph.": ("ceph",),
}
_BLOCK = ("lvm", "ceph")
_VOLUME_DRIVERS = {"size": ("btrfs", "ceph", "lvm", "zfs"), "block.": _BLOCK, "zfs.": ("zfs",)}

_POOL_CHANGES = {
    "dir": ("rsync.bwlimit",),
    "btrfs": ("rsync.bwlimit", "btrfs.mount_options"),
    "zfs": ("volume.zfs.remove_snapshots", "volume.zfs.use_refquota", "zfs.clone_copy"),
    "lvm": ("lvm.thinpool_name", "lvm.vg_name", "volume.block.filesystem", "volume.block.mount_options",
            "volume.size"),
    "ceph": ("volume.block.filesystem", "volume.block.mount_options", "volume.size"),
}  # fmt: skip
_VOLUME_CHANGES = {
    "dir": (),
    "btrfs": ("size",),
    "zfs": ("size", "zfs.remove_snapshots", "zfs.use_refquota"),
    "lvm": ("block.mount_options", "size"),
    "ceph": ("block.mount_options", "size"),
}


def check_pool(driver: str, config: Mapping[str, str]) -> None:
    """Refuses what a pool of this driver does not take. InvalidKey with LXD's words."""
    POOL.validate(config)
    for name in sorted(config):
        if not _fits(driver, name, _POOL_DRIVERS):
            raise InvalidKey(f"the key {name} cannot be used with {driver.upper()} storage pools")
    if is_false(config.get("lvm.use_thinpool")) and config.get("lvm.thinpool_name"):
        raise InvalidKey(
            'the key "lvm.use_thinpool" cannot be set to a false value when "lvm.thinpool_name" is set for '
            "LVM storage pools"
        )


def check_volume(driver: str, config: Mapping[str, str]) -> None:
    """Refuses what a volume in a pool of this driver does not take. InvalidKey with LXD's words."""
    VOLUME.validate(config)
    for name in sorted(config):
        if _fits(driver, name, _VOLUME_DRIVERS):
            continue
        if name.startswith("zfs."):
            raise InvalidKey(f"the key volume.{name} cannot be used with non zfs storage volumes")
        raise InvalidKey(f"the key {name} cannot be used with {driver} storage volumes")


def fitting_volume_keys(driver: str, config: Mapping[str, str]) -> dict[str, str]:
    """What a copy of a volume keeps in a pool of this driver: what it knows, without `user.*` (storage.md 5)."""
    return {
        name: value
        for name, value in config.items()
        if not name.startswith("user.") and VOLUME.find(name) and _fits(driver, name, _VOLUME_DRIVERS)
    }


def fixed_pool_keys(driver: str, changed: Iterable[str]) -> list[str]:
    """Those of the changed keys that a pool of this driver keeps for its life (rest.md 9.3), sorted."""
    return _fixed(changed, _POOL_CHANGES[driver])


def fixed_volume_keys(driver: str, changed: Iterable[str]) -> list[str]:
    """Those of the changed keys that a volume in a pool of this driver keeps for its life, sorted."""
    return _fixed(changed, _VOLUME_CHANGES[driver])


def _fixed(changed: Iterable[str], changeable: tuple[str, ...]) -> list[str]:
    return sorted(name for name in changed if name not in changeable and not name.startswith("user."))


def _fits(driver: str, name: str, table: Mapping[str, tuple[str, ...]]) -> bool:
    for family, drivers in table.items():
        if name == family or (family.endswith(".") and name.startswith(family)):
            return driver in drivers
    return True
