"""The one exception of this layer: something that this host was asked to do and did not do."""


class DriverError(Exception):
    """Work on this host failed; the text names the object and carries the host's own words."""
