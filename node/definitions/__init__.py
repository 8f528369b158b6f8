"""Definitions: what networks and pools have in common, a shared document with a part per member (DESIGN.md 4)."""
