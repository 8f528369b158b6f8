"""Containers on LXC: their configuration, start and stop, commands in them, their state and their files.

The daemon never imports `lxc`: its calls hold the GIL and can hang, so a process of its own makes them."""
