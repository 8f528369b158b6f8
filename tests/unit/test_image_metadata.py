"""Rules of metadata.yaml (spec/images.md 1)."""

import pytest

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.images.metadata import Template, parse

_GOOD = """\
architecture: amd64
creation_date: 1700000000
properties:
  release: 18.04
  version: 010
templates:
  /etc/hostname:
    when: [create, copy]
    create_only: true
    template: hostname.tpl
    properties:
"""


def test_scalars_of_properties_stay_the_text_that_was_written() -> None:
    metadata = parse(_GOOD.encode())
    assert metadata.properties == {"release": "18.04", "version": "010"}
    assert metadata.architecture == "x86_64"
    assert metadata.expiry_date == 0
    assert metadata.templates == {
        "/etc/hostname": Template(when=["create", "copy"], create_only=True, template="hostname.tpl")
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("architecture: x86_64", "Missing creation date."),
        ("architecture: x86_64\ncreation_date: 0", "Missing creation date."),
        ("architecture: vax\ncreation_date: 1", "Architecture isn't supported: vax"),
        ("creation_date: 1", "Architecture isn't supported: "),
        ("- a list", "Could not parse metadata.yaml: "),
        ("architecture: [", "Could not parse metadata.yaml: "),
        ("architecture: x86_64\ncreation_date: soon", "Could not parse metadata.yaml: "),
        ("", "Architecture isn't supported: "),
        ("a: &a [*a]", "Could not parse metadata.yaml: |Architecture"),
    ],
)
def test_bad_metadata_is_refused_with_lxds_words(text: str, words: str) -> None:
    with pytest.raises(DriverError, match=words):
        parse(text.encode())
