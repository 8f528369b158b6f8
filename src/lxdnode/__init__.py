"""lxd-node: a container manager that speaks LXD's REST API over a Raft-replicated store.

The four packages are committed links to the folders at the top of the repository."""
