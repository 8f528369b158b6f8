"""Profiles: named sets of configuration and devices that containers are made of."""
