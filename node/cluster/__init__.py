"""The cluster: its members, how one joins and leaves, and who can be reached."""
