"""raft: a replicated, durable, linearizable document store; it knows no host and no LXD."""
