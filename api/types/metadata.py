"""Bodies and objects of /1.0/containers/NAME/metadata (spec/images.md 1)."""

import msgspec

from lxdnode.drivers.images import metadata


class Template(msgspec.Struct):
    """When a template of `templates/` is rendered; an absent or null field is empty."""

    when: list[str] | None = None
    create_only: bool = False
    template: str = ""
    properties: dict[str, str] | None = None


class MetadataPut(msgspec.Struct):
    """PUT replaces the file; an absent or null field is empty."""

    architecture: str = ""
    creation_date: int = 0
    expiry_date: int = 0
    properties: dict[str, str] | None = None
    templates: dict[str, Template] | None = None

    def document(self) -> metadata.Metadata:
        """What is written."""
        return metadata.Metadata(
            architecture=self.architecture,
            creation_date=self.creation_date,
            expiry_date=self.expiry_date,
            properties=self.properties or {},
            templates={path: _document(template) for path, template in (self.templates or {}).items()},
        )


def _document(template: Template) -> metadata.Template:
    return metadata.Template(template.when or [], template.create_only, template.template, template.properties or {})
