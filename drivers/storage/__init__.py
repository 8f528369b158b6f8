"""Storage on this host: pools and the volumes in them, a package per driver behind one contract (`base.py`)."""
