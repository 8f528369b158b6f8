"""YAML that strangers wrote: metadata of images, descriptions in backups.

Every scalar stays text (a version 18.04 is no number); the types that the caller converts it to say what is meant."""

from typing import Any

import yaml


def load(text: bytes) -> Any:
    """What the text says, in maps, lists and texts. yaml.YAMLError for wrong text, and for aliases: a few lines of them
    stand for more than any host can walk through, and nobody's tools write them here."""
    if b"*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.CBaseLoader)):
        raise yaml.YAMLError("aliases are not taken: write out what they stand for")
    return yaml.load(text, Loader=yaml.CBaseLoader)
