"""Which keys pools and volumes take, with LXD's words (spec/storage.md 2 and 5)."""

import pytest

from lxdnode.drivers.config.key import InvalidKey
from lxdnode.drivers.storage import keys


@pytest.mark.parametrize(
    ("driver", "config", "words"),
    [
        ("dir", {"sorce": "x"}, "Invalid storage pool configuration key: sorce"),
        ("dir", {"size": "1GB"}, "the key size cannot be used with DIR storage pools"),
        ("ceph", {"size": "1GB"}, "the key size cannot be used with CEPH storage pools"),
        ("btrfs", {"lvm.vg_name": "x"}, "the key lvm.vg_name cannot be used with BTRFS storage pools"),
        ("zfs", {"volume.size": "1GB"}, "the key volume.size cannot be used with ZFS storage pools"),
        (
            "lvm",
            {"volume.zfs.use_refquota": "true"},
            "the key volume.zfs.use_refquota cannot be used with LVM storage pools",
        ),
        ("lvm", {"size": "1G"}, "Invalid value: 1G"),
        ("lvm", {"lvm.use_thinpool": "no", "lvm.thinpool_name": "x"}, 'the key "lvm.use_thinpool" cannot be set'),
    ],
)
def test_a_pool_refuses_what_its_driver_does_not_take(driver: str, config: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidKey, match=words):
        keys.check_pool(driver, config)


@pytest.mark.parametrize(
    ("driver", "config", "words"),
    [
        ("dir", {"size": "1GB"}, "the key size cannot be used with dir storage volumes"),
        ("btrfs", {"block.filesystem": "xfs"}, "the key block.filesystem cannot be used with btrfs storage volumes"),
        ("lvm", {"zfs.use_refquota": "on"}, "the key volume.zfs.use_refquota cannot be used with non zfs"),
        ("dir", {"x": "y"}, "Invalid storage volume configuration key: x"),
    ],
)  # fmt: skip
def test_a_volume_refuses_what_its_driver_does_not_take(driver: str, config: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidKey, match=words):
        keys.check_volume(driver, config)


def test_what_fits_passes() -> None:
    keys.check_pool("dir", {"source": "/x", "rsync.bwlimit": "10", "user.note": "x"})
    keys.check_pool("lvm", {"size": "10GB", "volume.size": "1GiB", "lvm.use_thinpool": "true"})
    keys.check_volume("lvm", {"size": "10GB", "block.filesystem": "xfs"})


def test_only_some_keys_change_later() -> None:
    assert keys.fixed_pool_keys("dir", ["source", "rsync.bwlimit", "user.x"]) == ["source"]
    assert keys.fixed_volume_keys("dir", ["size", "user.x"]) == ["size"]
    assert keys.fixed_volume_keys("btrfs", ["size"]) == []


def test_a_copy_keeps_what_the_target_knows() -> None:
    config = {"size": "1GB", "block.filesystem": "xfs", "user.x": "y", "zfs.use_refquota": "true"}
    assert keys.fitting_volume_keys("btrfs", config) == {"size": "1GB"}
    assert keys.fitting_volume_keys("dir", config) == {}
