"""Reconcilers: they make this host match the documents, and are run again until it does."""
