"""What containers depend on in a profile that changes (spec/config-keys.md 5)."""

from lxdnode.drivers.devices.registry import root_disk
from lxdnode.node.containers.expansion import expand
from lxdnode.node.documents import Draft
from lxdnode.node.errors import NodeError
from lxdnode.node.profiles.records import reference


def check_root_disks(draft: Draft, profile: str) -> None:
    """Whether every container that uses the profile `profile` (its id) still has its root disk on its pool, with the
    draft's change applied. NodeError with LXD's words."""
    for user in draft.users(reference(profile)):
        expanded = expand(draft, user.partition(":")[2])
        try:
            pool = root_disk(expanded.devices)[1].get("pool", "")
        except ValueError:
            pool = ""
        if pool != expanded.container.pool:
            raise NodeError("At least one container relies on this profile's root disk device.")
