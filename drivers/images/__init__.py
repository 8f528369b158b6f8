"""Container images on this host: recognize, read, unpack and pack them, and build the project's own."""
