"""Control groups of both versions, what limits mean in them, processors and id maps: without touching the host."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host import cpu, idmap, limits
from lxdnode.drivers.host.cgroup import Groups, Layout, Setting, detect
from lxdnode.drivers.host.idmap import Entry, Range

V1 = Layout({name: Path("/cg", name) for name in ("cpu", "memory", "pids", "cpuset", "freezer")}, None, frozenset())
V2 = Layout({}, Path("/cg"), frozenset({"cpu", "memory", "pids", "cpuset"}))


def files(settings: list[Setting]) -> dict[str, str]:
    """The last value of each file."""
    return {setting.file: setting.value for setting in settings}


# Control groups


def test_version_2_alone_is_found(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    layout = detect(tmp_path)
    assert [layout.version(name) for name in ("memory", "pids", "freezer")] == [2, 2, None]
    assert layout.mounts() == {tmp_path}


def test_a_hybrid_host_has_each_controller_once(tmp_path: Path) -> None:
    for name in ("memory", "cpu,cpuacct", "systemd", "unified"):
        (tmp_path / name).mkdir()
    (tmp_path / "cpu").symlink_to("cpu,cpuacct")
    (tmp_path / "unified/cgroup.controllers").write_text("memory hugetlb\n")
    layout = detect(tmp_path)
    assert [layout.version(name) for name in ("memory", "cpu", "cpuacct", "hugetlb", "pids")] == [1, 1, 1, 2, None]
    assert len(layout.mounts()) == 4


def test_a_group_is_found_though_init_moved_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = b"4:memory:/outer/top.c1.ab/init.scope\n0::/outer/top.c1.ab/a\xff\rb\n"  # Inside, any name will do.
    read = Path.read_bytes

    def read_bytes(self: Path) -> bytes:
        return paths if str(self) == "/proc/4711/cgroup" else read(self)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    layout = Layout({"memory": tmp_path / "memory"}, tmp_path / "unified", frozenset({"pids"}))
    groups = Groups(layout, 4711, "top.")
    assert groups.name == "top.c1.ab"
    assert groups.path("memory", "x") == tmp_path / "memory/outer/top.c1.ab/x"
    assert groups.path("pids", "x") == tmp_path / "unified/outer/top.c1.ab/x"
    assert groups.path("cpu", "x") is None
    groups.write([Setting("cpu", "x", "1")])  # A controller that the host does not have is skipped.
    with pytest.raises(DriverError, match="Failed to set x to 1: No such file"):
        groups.write([Setting("pids", "x", "1")])


# Limits (spec/config-keys.md 3)


@pytest.mark.parametrize(
    ("allowance", "priority", "shares", "period", "quota"),
    [
        (None, "", "1024", "100000", "-1"),
        (50, "", "524", "100000", "-1"),
        (100, "0", "1014", "100000", "-1"),
        ((25, 100), "", "1024", "100000", "25000"),
        ((200, 100), "5", "1019", "100000", "200000"),
        (0, "0", "14", "100000", "-1"),
    ],
)
def test_cpu_time(allowance: limits.Allowance | None, priority: str, shares: str, period: str, quota: str) -> None:
    assert files(limits.cpu_time(V1, allowance, priority)) == {
        "cpu.shares": shares,
        "cpu.cfs_period_us": period,
        "cpu.cfs_quota_us": quota,
    }


def test_cpu_time_in_version_2() -> None:
    assert files(limits.cpu_time(V2, (25, 100), "")) == {"cpu.weight": "100", "cpu.max": "25000 100000"}
    assert files(limits.cpu_time(V2, None, "")) == {"cpu.weight": "100", "cpu.max": "max 100000"}


def test_memory_sizes_and_percentages() -> None:
    assert limits.memory_size("", 1000) is None
    assert limits.memory_size("64MiB", 1000) == 64 << 20
    assert limits.memory_size("30%", 1000) == 300


def test_memory_limits_of_both_versions() -> None:
    hard = files(limits.memory(V1, 1000, False, "", "", 60))
    assert hard == {
        "memory.limit_in_bytes": "1000",
        "memory.soft_limit_in_bytes": "900",
        "memory.swappiness": "60",
    }
    soft = files(limits.memory(V1, 1000, True, "false", "", 60))
    assert soft == {
        "memory.limit_in_bytes": "-1",
        "memory.soft_limit_in_bytes": "1000",
        "memory.swappiness": "0",
    }
    assert files(limits.memory(V1, None, False, "", "3", 60))["memory.swappiness"] == "53"
    assert files(limits.memory(V2, 1000, False, "false", "", 60)) == {
        "memory.high": "max",
        "memory.max": "1000",
        "memory.swap.max": "0",
    }


def test_swap_is_counted_only_where_the_kernel_does(tmp_path: Path) -> None:
    (tmp_path / "memory.memsw.limit_in_bytes").touch()
    layout = Layout({"memory": tmp_path}, None, frozenset())
    written = limits.memory(layout, 1000, False, "", "", 60)
    assert [(setting.file.removeprefix("memory."), setting.value) for setting in written] == [
        ("memsw.limit_in_bytes", "-1"),  # Else the new limit could be above what it may be with swap.
        ("limit_in_bytes", "1000"),
        ("memsw.limit_in_bytes", "1000"),
        ("soft_limit_in_bytes", "900"),
        ("swappiness", "60"),
    ]


def test_disks_have_weights_where_the_scheduler_knows_them() -> None:
    without = Layout({"blkio": Path("/cg")}, None, frozenset())
    assert limits.disk_weight(without, "3") == []
    assert files(limits.disk_weight(V2, "0")) == {"io.weight": "10"}
    assert files(limits.disk_weight(V2, "")) == {"io.weight": "100"}  # The kernel's own.
    assert files(limits.disk_weight(V2, "5")) == {"io.weight": "500"}


# Processors


def test_processors_are_read_and_written() -> None:
    assert cpu.parse("0-2,5\n") == {0, 1, 2, 5}
    assert cpu.render({10, 1, 2}) == "1,2,10"
    assert cpu.pinned("3", {1, 3}) is None and cpu.pinned("1-1,4", {1, 3}) == {1} and cpu.pinned("x", {1}) is None
    assert cpu.pinned("1-999999999", {0, 1, 2}) == {1, 2}  # Not a set of a billion.


@given(
    st.dictionaries(st.text("abc", min_size=1), st.sampled_from(["", "1", "2", "9", "0", "0-1", "3", "7", "x"])),
    st.sets(st.integers(0, 5), min_size=1),
)
def test_each_container_gets_usable_processors_and_as_many_as_it_asks_for(
    asked: dict[str, str], available: set[int]
) -> None:
    chosen = cpu.balance(asked, available)
    assert chosen.keys() == asked.keys()
    for name, limit in asked.items():
        assert chosen[name] and chosen[name] <= available
        if limit.isdigit() and int(limit):
            assert len(chosen[name]) == min(int(limit), len(available))


def test_the_least_used_processors_are_taken_first() -> None:
    assert cpu.balance({"a": "0-0", "b": "1", "c": "1"}, {0, 1, 2}) == {"a": {0}, "b": {1}, "c": {2}}


# Id maps (spec/containers.md 14)


def test_the_hosts_range_is_what_both_files_give_root(tmp_path: Path) -> None:
    uids, gids = tmp_path / "subuid", tmp_path / "subgid"
    assert idmap.host_range(uids, gids) == Range(1_000_000, 1_000_000_000)
    uids.write_text("lxd:1:70000\nroot:5:10\nroot:100000:70000\n")
    assert idmap.host_range(uids, gids) is None
    gids.write_text("root:110000:70000\n")
    assert idmap.host_range(uids, gids) is None
    gids.write_text("root:100000:65536\n")
    assert idmap.host_range(uids, gids) == Range(100_000, 65_536)


def test_a_map_is_kept_as_lxds_text() -> None:
    entries = Range(100, 10).whole()
    text = idmap.encode(entries)
    assert text.startswith('[{"Isuid":true,"Isgid":false,"Hostid":100,"Nsid":0,"Maprange":10},')
    assert idmap.decode(text) == entries
    assert idmap.decode("[]") == idmap.decode("") == ()


def test_ids_are_translated_both_ways() -> None:
    entries = Range(100, 10).whole()
    assert idmap.to_host(entries, 3, 0) == (103, 100)
    assert idmap.to_container(entries, 103, 99) == (3, 65534)
    assert idmap.to_host((), 3, 4) == (3, 4)
    with pytest.raises(DriverError, match="id 10 is outside"):
        idmap.to_host(entries, 10, 0)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("both 1", "invalid raw.idmap line both 1"),
        ("all 1 2", "invalid raw.idmap type all 1 2"),
        ("uid x 2", "invalid raw.idmap range x"),
        ("uid 5-3 2", "invalid raw.idmap range 5-3"),
        ("uid 1-3 2", "idmap ranges of different sizes uid 1-3 2"),
    ],
)
def test_wrong_lines_of_raw_idmap(line: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}$"):
        idmap.parse_raw(line)


@given(st.integers(0, 99), st.integers(1, 20), st.sampled_from(["both", "uid", "gid"]))
def test_a_raw_entry_cuts_the_map_and_changes_nothing_else(first: int, length: int, kind: str) -> None:
    whole = Range(1000, 100).whole()
    line = f"{kind} 5000-{5000 + length - 1} {first}-{first + length - 1}"
    cut = idmap.insert(whole, idmap.parse_raw(line))
    for id in range(100):
        uid, gid = idmap.to_host(cut, id, id)
        inside = first <= id < first + length
        assert uid == (5000 + id - first if inside and kind != "gid" else 1000 + id)
        assert gid == (5000 + id - first if inside and kind != "uid" else 1000 + id)


def test_a_raw_entry_must_not_use_the_containers_own_ids() -> None:
    with pytest.raises(ValueError, match="^Host id is in the range of subids$"):
        idmap.insert(Range(1000, 100).whole(), [Entry(True, False, 1050, 5, 1)])
