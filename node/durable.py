"""What outlives a power cut: the names in a directory, which the sync of a file does not make durable."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Makes what was created, renamed and removed in a directory durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
