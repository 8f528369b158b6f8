"""What importing raft/ must not do to the rest of the process."""

import socket

import lxdnode.raft.log  # noqa: F401 - its import is what is tested


def test_addresses_can_still_be_read() -> None:
    assert socket.inet_ntop(socket.AF_INET, bytes([127, 0, 0, 1])) == "127.0.0.1"
    assert socket.inet_ntop(socket.AF_INET6, bytes(15) + b"\1") == "::1"
