"""/1.0/certificates (spec/security.md 4)."""

from quart.wrappers import Response

from lxdnode.api.etag import etag_of
from lxdnode.api.responses import created, empty, sync
from lxdnode.api.route import Call, route
from lxdnode.api.types.certificates import Certificate, CertificatePut, CertificatesPost
from lxdnode.node.certificates import rules
from lxdnode.node.certificates.records import CERTIFICATES
from lxdnode.node.certificates.records import Certificate as Record
from lxdnode.node.documents import Draft
from lxdnode.node.errors import Forbidden, Invalid


@route("GET", "/1.0/certificates", answer=list[Certificate])
async def list_certificates(call: Call) -> Response:
    """URLs, or objects with recursion."""
    view = await call.view()
    if call.recursion:
        return sync([_render(fingerprint, record) for fingerprint, record in view.all(CERTIFICATES)])
    return sync([_url(fingerprint) for fingerprint, _record in view.all(CERTIFICATES)])


@route("POST", "/1.0/certificates", guest=True, body=CertificatesPost)
async def add_certificate(call: Call) -> Response:
    """Trusts a certificate: the one in the body, else the caller's own. Untrusted callers need the trust password."""
    body = await call.json(CertificatesPost)
    if not call.caller.trusted and not await call.node.admits(body.password):
        raise Forbidden()
    rules.check_type(body.type)
    der, name = _presented(call, body)
    fingerprint = await call.transact(lambda draft: rules.add(draft, der, name))
    return created(_url(fingerprint))


def _presented(call: Call, body: CertificatesPost) -> tuple[bytes, str]:
    """(DER, name): without a certificate in the body the connection's, named after its address as LXD does."""
    if body.certificate:
        return rules.decode(body.certificate), body.name
    peer = call.caller.peer
    if peer.kind != "tls":
        raise Invalid("Can't use TLS data on non-TLS link")
    if not peer.certificate or not peer.signed:
        raise Invalid("No client certificate provided")
    return peer.certificate, peer.address.rpartition(":")[0].strip("[]") or peer.address


@route("GET", "/1.0/certificates/<fingerprint>", answer=Certificate)
async def show_certificate(call: Call) -> Response:
    """One certificate by fingerprint, or by the beginning of one."""
    shown = _render(*rules.find(await call.view(), call.arguments["fingerprint"]))
    return sync(shown, etag=etag_of(shown))


@route("PUT", "/1.0/certificates/<fingerprint>", extension="certificate_update", body=CertificatePut)
async def replace_certificate(call: Call) -> Response:
    """Replaces name and type."""
    body = await call.json(CertificatePut)
    return await _change(call, body.name or "", body.type or "")


@route("PATCH", "/1.0/certificates/<fingerprint>", extension="certificate_update", body=CertificatePut)
async def patch_certificate(call: Call) -> Response:
    """Replaces what is given."""
    body = await call.json(CertificatePut)
    return await _change(call, body.name, body.type)


async def _change(call: Call, name: str | None, kind: str | None) -> Response:
    def change(draft: Draft) -> None:
        fingerprint, record = rules.find(draft, call.arguments["fingerprint"])
        call.match(etag_of(_render(fingerprint, record)))
        rules.change(draft, fingerprint, name, kind)

    await call.transact(change)
    return empty()


@route("DELETE", "/1.0/certificates/<fingerprint>")
async def delete_certificate(call: Call) -> Response:
    """Ends the trust at once."""
    await call.transact(lambda draft: rules.remove(draft, call.arguments["fingerprint"]))
    return empty()


def _url(fingerprint: str) -> str:
    return f"/1.0/certificates/{fingerprint}"


def _render(fingerprint: str, record: Record) -> Certificate:
    return Certificate(record.name, record.type, record.certificate, fingerprint)
