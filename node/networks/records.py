"""What is replicated of networks."""

from lxdnode.drivers.network.keys import NETWORK
from lxdnode.node.definitions.records import Definition, Noun, Words
from lxdnode.node.documents import Table


class Network(Definition, frozen=True):
    """`(networks, "", ID)`: a managed bridge."""


NETWORKS = Table("networks", Network)
KIND = "network"
NOUN = Noun(
    NETWORKS,
    KIND,
    NETWORK,
    Words(
        twice="The network already defined on node {member}",
        not_pending="network is not in pending state",
        missing="Network not defined on nodes: {members}",
        taken="The network already exists",
    ),
)
