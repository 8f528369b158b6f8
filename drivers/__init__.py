"""drivers: this host; it knows no cluster and no HTTP."""
