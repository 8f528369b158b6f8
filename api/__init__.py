"""api: speaks HTTP: it decodes requests, asks the node, and turns values and errors into answers."""
