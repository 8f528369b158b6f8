"""What the files of an image say of themselves.

Owns the way from metadata.yaml to the record; refuses to know what was asked of the image."""

import time

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.images import metadata
from lxdnode.node.errors import NodeError
from lxdnode.node.images.files import Files
from lxdnode.node.images.records import Image


async def describe(files: Files) -> Image:
    """What files say of themselves in metadata.yaml. NodeError with LXD's words when they are no image."""
    try:
        told = await metadata.read(files.image)
    except DriverError as error:
        raise NodeError(str(error)) from None
    return Image(
        size=files.size,
        architecture=told.architecture,
        split=files.rootfs is not None,
        properties=told.properties,
        created_at=told.creation_date,
        expires_at=told.expiry_date,
        uploaded_at=time.time(),
    )
