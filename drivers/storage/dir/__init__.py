"""The `dir` driver: volumes are directories of whatever file system is there."""
