"""The language of image templates: as much of pongo2 (Django's, for Go), which LXD takes, as templates use.

Owns what a text means and how much it may cost: who makes an image writes the templates, and the daemon renders them.
Refuses files, other templates, attributes and methods of Python's objects, and any code of its own."""

from collections.abc import Mapping
from typing import Any

from lxdnode.drivers.images.templating.rendering import Rendering, TemplateError
from lxdnode.drivers.images.templating.tags import parse

__all__ = ["TemplateError", "render"]


def render(text: str, variables: Mapping[str, Any]) -> str:
    """The text with its variables and tags filled in: maps, lists, texts, numbers and functions. Unknown ones are
    empty. TemplateError with the reason."""
    rendering = Rendering(variables)
    parse(text)(rendering)
    return rendering.text
