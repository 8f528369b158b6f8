"""Real parts for tests and for the demo: network namespaces, daemons as processes, clients."""
