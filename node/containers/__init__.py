"""Containers: their records, the rules of their configuration, and what is done with them on this member."""
