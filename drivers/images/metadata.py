"""`metadata.yaml`: what an image says about itself (spec/images.md 1).

Owns its fields and rules; refuses to read any other file of an image."""

import os
from pathlib import Path
from typing import Any

import msgspec
import yaml

from lxdnode.drivers.command import run
from lxdnode.drivers.config import plain_yaml
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.images.architectures import canonical
from lxdnode.drivers.images.formats import detect

NAME = "metadata.yaml"
_LIMIT = 1 << 20
"""Bytes that the file may have: it is read into memory, and whoever uploads an image chooses its size."""


class Template(msgspec.Struct, frozen=True):
    """A file that is rendered into the container: at which events (`when`), from which file of `templates/`."""

    when: list[str] = []
    create_only: bool = False
    template: str = ""
    properties: dict[str, str] = {}


class Metadata(msgspec.Struct, frozen=True):
    """The fields of `metadata.yaml`. Dates are Unix seconds; an `expiry_date` of 0 is none."""

    architecture: str = ""
    creation_date: int = 0
    expiry_date: int = 0
    properties: dict[str, str] = {}
    templates: dict[str, Template] = {}


async def read(archive: Path) -> Metadata:
    """The metadata of a unified image, or of the metadata half of a split one. DriverError with LXD's words."""
    compression = detect(archive).tar
    out = os.memfd_create(NAME)
    try:
        # The limit ends tar when the file is larger; `--occurrence` ends it as soon as the file was found.
        limit = ("prlimit", f"--fsize={_LIMIT}")
        await run(*limit, "tar", compression, "--occurrence=1", "-O", "-xf", archive, NAME, stdout=out)
        text = os.pread(out, _LIMIT, 0)
    except DriverError as error:
        raise DriverError(f"Could not extract image metadata.yaml from tar: {error}") from None
    finally:
        os.close(out)
    return parse(text)


def decode(text: bytes) -> Metadata:
    """The file's text as it is. DriverError with LXD's words."""
    try:
        return msgspec.convert(_without_nulls(plain_yaml.load(text)) or {}, Metadata, strict=False)
    except (yaml.YAMLError, msgspec.ValidationError, RecursionError) as error:
        raise DriverError(f"Could not parse metadata.yaml: {error}") from None


def encode(metadata: Metadata) -> bytes:
    """The file's text."""
    return yaml.safe_dump(msgspec.to_builtins(metadata), sort_keys=False, allow_unicode=True).encode()


def parse(text: bytes) -> Metadata:
    """Decodes the file's text and checks that an image may have it. DriverError with LXD's words."""
    metadata = decode(text)
    try:
        architecture = canonical(metadata.architecture)
    except ValueError as error:
        raise DriverError(str(error)) from None
    if metadata.creation_date == 0:
        raise DriverError("Missing creation date.")
    return msgspec.structs.replace(metadata, architecture=architecture)


def _without_nulls(document: Any) -> Any:
    """A map without the keys that YAML gives no value (`templates:`), at every level."""
    if not isinstance(document, dict):
        return document
    return {key: _without_nulls(value) for key, value in document.items() if value not in ("null", "~", "")}
