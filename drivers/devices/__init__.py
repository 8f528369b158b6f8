"""Devices of containers: a file per type, each declaring its keys and acting on them."""
