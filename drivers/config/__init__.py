"""Configuration keys: what a key is (`key.py`) and which values it takes (`kinds.py`)."""
