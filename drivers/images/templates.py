"""Renders the templates of an image into a container's files before a start (spec/containers.md 11).

Owns which template is due and what it sees (the language is `templating/`'s); refuses to leave the container's root:
files are written through `drivers/runtime/files.py`. Blocks: call it from a worker thread."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.images import description
from lxdnode.drivers.images.metadata import Template, decode
from lxdnode.drivers.images.templating import TemplateError, render
from lxdnode.drivers.runtime.files import Attributes, Root

_MODE, _PARENT_MODE = 0o644, 0o755


@dataclass(frozen=True)
class Context:
    """What templates see of a container; `container` has name, architecture, privileged and ephemeral as text."""

    container: Mapping[str, str]
    config: Mapping[str, str]
    devices: Mapping[str, Mapping[str, str]]


def apply(volume: Path, root: Root, triggers: Collection[str], context: Context) -> None:
    """Renders every template of `volume` (metadata.yaml, templates/) whose `when` has one of the triggers.

    DriverError naming the template: a start without its files would run something else than what was asked for."""
    text = description.read_metadata(volume)
    if text is None:
        return
    for path, template in decode(text).templates.items():
        for trigger in triggers:
            if trigger in template.when:
                _render(volume, root, path, template, trigger, context)


def _render(volume: Path, root: Root, path: str, template: Template, trigger: str, context: Context) -> None:
    exists = _exists(root, path)
    if exists and template.create_only:
        return
    try:
        text = render(_source(volume, template.template), _variables(path, template, trigger, context))
        _write(root, path, text, exists)
    except (DriverError, TemplateError, OSError, UnicodeDecodeError, RecursionError) as error:
        raise DriverError(f"Template {template.template} of {path} cannot be rendered: {error}") from None


def _source(volume: Path, name: str) -> str:
    text = description.read_template(volume, name)
    if text is None:
        raise DriverError("no such template")
    return text.decode()


def _variables(path: str, template: Template, trigger: str, context: Context) -> dict[str, Any]:
    def config_get(key: str, default: Any = "") -> Any:
        return context.config[key].rstrip("\r\n") if key in context.config else default

    return {
        "trigger": trigger,
        "path": path,
        "container": dict(context.container),
        "config": dict(context.config),
        "devices": {name: dict(device) for name, device in context.devices.items()},
        "properties": dict(template.properties),
        "config_get": config_get,
    }


def _exists(root: Root, path: str) -> bool:
    try:
        root.status(path)
    except FileNotFoundError:
        return False
    return True


def _write(root: Root, path: str, text: str, exists: bool) -> None:
    """What exists keeps owner and mode; something new is root's, with its parents."""
    if not exists:
        for parent in reversed(PurePosixPath(path).parents):
            if str(parent) not in ("/", ".") and not _exists(root, str(parent)):
                root.make_directory(str(parent), Attributes(mode=_PARENT_MODE))
    with open(root.create(path, Attributes(mode=None if exists else _MODE)), "w") as file:
        file.write(text)
