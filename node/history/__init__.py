"""The history: what was changed, when, by whom and from what to what."""
