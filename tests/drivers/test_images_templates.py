"""Templates of an image are rendered into the container's files, and nowhere else."""

import os
from pathlib import Path

import pytest

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.images.templates import Context, apply
from lxdnode.drivers.runtime.files import Root

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners are root's to set")
CONTEXT = Context(
    container={"name": "c1", "architecture": "x86_64", "privileged": "false", "ephemeral": "false"},
    config={"user.data": "value\n", "user.words": "<a & b>"},
    devices={"eth0": {"type": "nic"}},
)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A container's volume without templates."""
    (tmp_path / "rootfs/etc").mkdir(parents=True)
    (tmp_path / "templates").mkdir()
    return tmp_path


def render(volume: Path, text: str, *triggers: str, path: str = "/etc/made", more: str = "") -> str:
    """Renders one template whose `when` is create and start, and returns the file."""
    (volume / "templates/t.tpl").write_text(text)
    (volume / "metadata.yaml").write_text(
        f"architecture: x86_64\ncreation_date: 1\ntemplates:\n  {path}:\n    when: [create, start]\n"
        f"    template: t.tpl\n    properties: {{greeting: hello}}\n{more}"
    )
    with Root(volume / "rootfs", ()) as root:
        apply(volume, root, triggers or ("create",), CONTEXT)
    made = volume / f"rootfs{path}"
    return made.read_text() if made.exists() else ""


def test_a_template_sees_the_container(volume: Path) -> None:
    text = "{{ container.name }} {{ trigger }} {{ path }} {{ properties.greeting }} {{ devices.eth0.type }}\n"
    assert render(volume, text) == "c1 create /etc/made hello nic\n"
    assert (volume / "rootfs/etc/made").stat().st_mode & 0o777 == 0o644


def test_values_are_neither_escaped_nor_missed(volume: Path) -> None:
    text = (
        '{{ config_get("user.words", "") }}|{{ config_get("user.data", "") }}|{{ config_get("x", "d") }}|{{ no.such }}'
    )
    assert render(volume, text) == "<a & b>|value|d|"
    # As images do it whose template has a default among its properties, or none.
    assert (
        render(volume, '{{ config_get("x", properties.greeting) }}|{{ config_get("x", properties.none) }}') == "hello|"
    )


def test_what_exists_is_overwritten_unless_it_is_create_only(volume: Path) -> None:
    made = volume / "rootfs/etc/made"
    made.write_text("old")
    made.chmod(0o600)
    assert render(volume, "new", more="    create_only: true\n") == "old"
    assert render(volume, "new") == "new"
    assert made.stat().st_mode & 0o777 == 0o600


def test_a_container_whose_metadata_are_empty_has_no_templates(volume: Path) -> None:
    """They are its own to change: what an image must have does not keep it from starting."""
    for text in ("", "{}", "architecture: vax\n"):
        (volume / "metadata.yaml").write_text(text)
        with Root(volume / "rootfs", ()) as root:
            apply(volume, root, ("create", "start"), CONTEXT)
    assert list((volume / "rootfs/etc").iterdir()) == []


def test_another_trigger_renders_nothing_and_parents_are_made(volume: Path) -> None:
    assert render(volume, "x", "copy") == ""
    assert render(volume, "x", "start", path="/var/lib/cloud/seed") == "x"
    assert (volume / "rootfs/var/lib").stat().st_mode & 0o777 == 0o755


def test_a_link_in_the_container_does_not_lead_out(volume: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (volume / "rootfs/etc/made").symlink_to(outside)
    with pytest.raises(DriverError, match=r"Template t.tpl of /etc/made cannot be rendered"):
        render(volume, "theirs")
    assert outside.read_text() == "mine"


def test_a_template_that_is_a_link_shows_nothing_of_the_host(volume: Path, tmp_path: Path) -> None:
    """Whoever makes an image chooses what lies in it; a file of the host would end up in the container."""
    (tmp_path / "secret").write_text("mine")
    render(volume, "")
    for name in ("templates/t.tpl", "metadata.yaml"):
        text = (volume / name).read_text()
        (volume / name).unlink()
        (volume / name).symlink_to(tmp_path / "secret")
        with Root(volume / "rootfs", ()) as root, pytest.raises(DriverError):
            apply(volume, root, ("create",), CONTEXT)
        (volume / name).unlink()
        (volume / name).write_text(text)
    assert (volume / "rootfs/etc/made").read_text() == ""


@pytest.mark.parametrize(
    "text",
    [
        "{{ 9**9**9 }}",
        "{{ ().__class__.__base__.__subclasses__() }}",
        "{% for i in range(10000000) %}x{% endfor %}",
        "{{ unclosed",
    ],
)
def test_a_template_cannot_reach_the_daemon(volume: Path, text: str) -> None:
    with pytest.raises(DriverError, match="cannot be rendered"):
        render(volume, text)
