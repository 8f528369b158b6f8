"""The files that describe a root file system, beside it in its volume: `metadata.yaml` and those in `templates/`.

Owns how they are read and replaced: whole or not at all, and never through a link, since whoever made the image may
have put one there. Refuses to understand them. Blocks for microseconds."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lxdnode.drivers.errors import DriverError

METADATA, TEMPLATES = "metadata.yaml", "templates"
LIMIT = 1 << 20
"""Bytes of one file: it is read into memory, and whoever made an image chose its size."""
_NEW = ".lxd-node.new"


def read_metadata(volume: Path) -> bytes | None:
    """The text of metadata.yaml; None when there is none. DriverError."""
    with _folder(volume) as folder:
        return _read(folder, METADATA)


def write_metadata(volume: Path, text: bytes) -> None:
    """Replaces metadata.yaml. DriverError."""
    with _folder(volume) as folder:
        _write(folder, METADATA, text)


def list_templates(volume: Path) -> list[str]:
    """The names of the files in templates/, sorted."""
    with _folder(volume) as folder:
        if TEMPLATES not in os.listdir(folder):  # noqa: PTH208  (Path takes no descriptor)
            return []
        with _templates(folder) as templates:
            return sorted(name for name in os.listdir(templates) if name != _NEW)  # noqa: PTH208


def read_template(volume: Path, name: str) -> bytes | None:
    """A template; None when there is none. DriverError for what is no name of a file."""
    if name not in list_templates(volume):
        check_template(name)
        return None
    with _folder(volume) as folder, _templates(folder) as templates:
        return _read(templates, name)


def write_template(volume: Path, name: str, text: bytes) -> None:
    """Makes or replaces a template, and templates/ when it is missing. DriverError."""
    check_template(name)
    with _folder(volume) as folder:
        if TEMPLATES not in os.listdir(folder):  # noqa: PTH208
            os.mkdir(TEMPLATES, 0o711, dir_fd=folder)
        with _templates(folder) as templates:
            _write(templates, name, text)


def delete_template(volume: Path, name: str) -> None:
    """Removes a template that exists."""
    check_template(name)
    with _folder(volume) as folder, _templates(folder) as templates:
        os.unlink(name, dir_fd=templates)


def check_template(name: str) -> None:
    """DriverError with LXD's words for what is no name of a file."""
    if not name or "/" in name or "\0" in name or name in (".", "..", _NEW):
        raise DriverError("Invalid template filename")


@contextmanager
def _folder(path: Path, above: int | None = None) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    except OSError as error:
        raise DriverError(f"{path} cannot be read: {error.strerror}") from None
    try:
        yield descriptor
    except OSError as error:
        raise DriverError(f"{path}: {error.filename}: {error.strerror}") from None
    finally:
        os.close(descriptor)


@contextmanager
def _templates(folder: int) -> Iterator[int]:
    with _folder(Path(TEMPLATES), folder) as templates:
        yield templates


def _read(folder: int, name: str) -> bytes | None:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        text = file.read(LIMIT + 1)
    if len(text) > LIMIT:
        raise DriverError(f"{name} has more than {LIMIT} bytes")
    return text


def _write(folder: int, name: str, text: bytes) -> None:
    """Beside first, so that a start that reads meanwhile gets one or the other."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(_NEW, flags, 0o644, dir_fd=folder), "wb") as file:
        file.write(text)
        file.flush()
        os.fdatasync(file.fileno())
    os.rename(_NEW, name, src_dir_fd=folder, dst_dir_fd=folder)
