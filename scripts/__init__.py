"""The verbs of the repository."""
