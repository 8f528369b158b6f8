"""The API extensions: which this server advertises, in LXD's order, and what is missing of those served in part.

Owns the honest list: `scripts/check` compares it with the tests that prove an extension (`pytest.mark.extension`);
refuses claims without a test."""

from typing import Literal

import msgspec

State = Literal["proven", "part", "absent"]


class Extension(msgspec.Struct, frozen=True):
    """One name of `api_extensions`. proven: a marked test shows it end to end on real parts. part: served because
    `lxc` refuses a whole subcommand without it, with `gaps` saying what is missing. absent: not advertised."""

    name: str
    state: State = "absent"
    gaps: str = ""


LEVEL = (
    Extension("storage_zfs_remove_snapshots"),
    Extension("container_host_shutdown_timeout", "proven"),
    Extension("container_stop_priority", "proven"),
    Extension("container_syscall_filtering", "proven"),
    Extension("auth_pki", "proven"),
    Extension("container_last_used_at", "proven"),
    Extension("etag", "proven"),
    Extension("patch", "proven"),
    Extension("usb_devices", "proven"),
    Extension("https_allowed_credentials", "proven"),
    Extension("image_compression_algorithm", "proven"),
    Extension("directory_manipulation", "proven"),
    Extension("container_cpu_time", "proven"),
    Extension("storage_zfs_use_refquota"),
    Extension("storage_lvm_mount_options"),
    Extension("network", "part", "no openvswitch bridges and no fan"),
    Extension("profile_usedby", "proven"),
    Extension("container_push", "proven"),
    Extension("container_exec_recording", "proven"),
    Extension("certificate_update", "proven"),
    Extension("container_exec_signal_handling", "proven"),
    Extension("gpu_devices", "proven"),
    Extension("container_image_properties", "proven"),
    Extension("migration_progress", "proven"),
    Extension("id_map", "proven"),
    Extension("network_firewall_filtering", "proven"),
    Extension("network_routes", "proven"),
    Extension("storage", "part", "driver dir only; keys of container volumes cannot be changed"),
    Extension("file_delete", "proven"),
    Extension("file_append", "proven"),
    Extension("network_dhcp_expiry", "proven"),
    Extension("storage_lvm_vg_rename"),
    Extension("storage_lvm_thinpool_rename"),
    Extension("network_vlan", "proven"),
    Extension("image_create_aliases", "proven"),
    Extension("container_stateless_copy", "proven"),
    Extension("container_only_migration", "proven"),
    Extension("storage_zfs_clone_copy"),
    Extension("unix_device_rename", "proven"),
    Extension("storage_rsync_bwlimit", "proven"),
    Extension("network_vxlan_interface", "proven"),
    Extension("storage_btrfs_mount_options"),
    Extension("entity_description", "proven"),
    Extension("image_force_refresh", "proven"),
    Extension("storage_lvm_lv_resizing"),
    Extension("id_map_base", "proven"),
    Extension("file_symlinks", "proven"),
    Extension("container_push_target", "proven"),
    Extension("network_vlan_physical", "proven"),
    Extension("storage_images_delete"),
    Extension("container_edit_metadata", "proven"),
    Extension("container_snapshot_stateful_migration"),
    Extension("storage_driver_ceph"),
    Extension("storage_ceph_user_name"),
    Extension("resource_limits", "proven"),
    Extension("storage_volatile_initial_source", "proven"),
    Extension("storage_ceph_force_osd_reuse"),
    Extension("storage_block_filesystem_btrfs"),
    Extension("resources", "proven"),
    Extension("kernel_limits", "proven"),
    Extension("storage_api_volume_rename", "proven"),
    Extension("macaroon_authentication"),
    Extension("network_sriov"),
    Extension("console", "proven"),
    Extension("restrict_devlxd", "proven"),
    Extension("migration_pre_copy"),
    Extension("infiniband"),
    Extension("maas_network"),
    Extension("devlxd_events", "proven"),
    Extension("proxy", "proven"),
    Extension("network_dhcp_gateway", "proven"),
    Extension("file_get_symlink", "proven"),
    Extension("network_leases", "proven"),
    Extension("unix_device_hotplug", "proven"),
    Extension("storage_api_local_volume_handling", "proven"),
    Extension("operation_description", "proven"),
    Extension("clustering", "proven"),
    Extension("event_lifecycle", "proven"),
    Extension("storage_api_remote_volume_handling", "proven"),
    Extension("nvidia_runtime", "proven"),
    Extension("container_mount_propagation", "proven"),
    Extension("container_backup", "proven"),
    Extension("devlxd_images", "proven"),
    Extension("container_local_cross_pool_handling", "proven"),
    Extension("proxy_unix", "proven"),
    Extension("proxy_udp", "proven"),
    Extension("clustering_join", "proven"),
    Extension("proxy_tcp_udp_multi_port_handling", "proven"),
    Extension("network_state", "proven"),
    Extension("proxy_unix_dac_properties", "proven"),
    Extension("container_protection_delete", "proven"),
    Extension("unix_priv_drop", "proven"),
    Extension("pprof_http"),
)
"""The 93 names of the level (spec/extensions.md part 1), in the order in which LXD shows them."""
BEYOND = (
    # Every form of `lxc list` of today's client asks for it (spec/client.md).
    Extension("api_filtering", "proven"),
    # One request instead of three for each container: `lxc list` of a hundred.
    Extension("container_full", "proven"),
    # `lxc cluster update-certificate` refuses to work without it.
    Extension("clustering_update_cert", "proven"),
)
EXTENSIONS = (*LEVEL, *BEYOND)
ADVERTISED = [one.name for one in EXTENSIONS if one.state != "absent"]
"""What GET /1.0 shows as `api_extensions`."""
