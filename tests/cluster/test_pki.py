"""A server with a CA: who may add himself, and whom the real client believes (spec/security.md 5)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lxdnode.node.keypair import KeyPair, make
from tests.cluster.conftest import PREFIX
from tests.harness.certificates import authority, issued
from tests.harness.daemons import PASSWORD, Cluster, Daemon

pytestmark = pytest.mark.slow


def show(folder: Path, who: str, pair: KeyPair, signer: KeyPair) -> None:
    """Gives a client or a server its key pair and the CA."""
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    for name, text in (("crt", pair.certificate), ("key", pair.key), ("ca", signer.certificate)):
        (folder / f"{who}.{name}").write_text(text)


@pytest.fixture
def signer() -> KeyPair:
    """The CA."""
    return authority()


@pytest.fixture
def guarded(directory: Path, signer: KeyPair) -> Iterator[Daemon]:
    """A server whose certificate the CA has issued."""
    made = Cluster(directory / "k", 1, PREFIX + "k", "10.99.0")
    try:
        show(made[1].directory, "server", issued(signer, made[1].address.partition(":")[0]), signer)
        made.start()
        made[1].patch("/1.0", {"config": {"core.https_address": made[1].address, "core.trust_password": PASSWORD}})
        yield made[1]
    finally:
        made.stop()


@pytest.mark.extension("auth_pki")
def test_a_client_of_the_ca_adds_itself_and_no_other_does(guarded: Daemon, signer: KeyPair) -> None:
    conf, url = Path(guarded.environment["LXD_CONF"]), f"https://{guarded.address}"
    show(conf, "client", make(), signer)
    refused = guarded.lxc("remote", "add", "self", url, "--password", PASSWORD, check=False)
    assert refused.returncode and guarded.get("/1.0/certificates") == []
    show(conf, "client", issued(signer), signer)
    wrong = guarded.lxc("remote", "add", "self", url, "--password", "guess", check=False)
    assert wrong.returncode and guarded.get("/1.0/certificates") == []  # Signed is not trusted yet.
    guarded.lxc("remote", "add", "self", url, "--password", PASSWORD)  # The fingerprint is not asked for.
    assert b"auth: trusted" in guarded.lxc("info", "self:").stdout
    show(conf, "client", issued(authority()), signer)
    assert b"auth: untrusted" in guarded.lxc("info", "self:").stdout
