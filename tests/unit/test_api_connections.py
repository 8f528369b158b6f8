"""Connections: what clients may do to them, how they end, and how many requests are worked on at a time."""

import base64
import socket
import ssl
from pathlib import Path

import h11
import pytest
import trio
import trio.testing
from quart.wrappers import Response

from lxdnode.api import network as networks
from lxdnode.api import protocol, responses
from lxdnode.api.listener import bind_unix
from lxdnode.api.network import Network, parse_address
from lxdnode.api.route import Call, route
from lxdnode.node.errors import Invalid, NodeError
from lxdnode.node.keypair import make
from tests.harness.api import Client, Site, alone, client_context, free_port, routes_of
from tests.harness.certificates import authority, issued, pair_of_odd_version

MIB = 2**20


@route("POST", "/up")
async def count_bytes(call: Call) -> Response:
    return responses.sync(sum([len(chunk) async for chunk in call.stream()]))


@route("GET", "/down")
async def send_bytes(call: Call) -> Response:
    async def chunks():  # type: ignore[no-untyped-def]
        for _ in range(16):
            yield b"x" * MIB

    return responses.raw(chunks(), {"X-LXD-type": "file"}, length=16 * MIB)


@route("GET", "/long", long=True)
async def wait_long(call: Call) -> Response:
    call.node.seen.append("began")
    try:
        await trio.sleep_forever()
    finally:
        call.node.seen.append("ended")


@route("POST", "/work")
async def work(call: Call) -> Response:
    call.node.seen.append("began")
    await call.node.gate.wait()
    return responses.empty()


@route("POST", "/guest", guest=True)
async def work_for_guests(call: Call) -> Response:
    await call.json(dict)
    return responses.empty()


ROUTES = routes_of(a=count_bytes, b=send_bytes, c=wait_long, d=work, e=work_for_guests)


def watch(site: Site) -> list[str]:
    """What the handlers of this file note."""
    site.node.seen = []  # type: ignore[attr-defined]
    site.node.gate = trio.Event()  # type: ignore[attr-defined]
    return site.node.seen  # type: ignore[attr-defined,no-any-return]


async def within(seconds: float, condition) -> None:  # type: ignore[no-untyped-def]
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


@pytest.mark.parametrize("over", ["unix", "tls"])
async def test_bodies_stream_both_ways_on_one_connection(tmp_path: Path, over: str) -> None:
    async with alone(tmp_path, ROUTES) as site:
        client = await (site.connect() if over == "unix" else _trusted(site))
        for _ in range(3):
            assert (await client.ask("POST", "/up", b"x" * (5 * MIB + 7))).metadata == 5 * MIB + 7
            answer = await client.ask("GET", "/down")
            assert (len(answer.body), answer.headers["x-lxd-type"]) == (16 * MIB, "file")


async def _trusted(site: Site) -> Client:
    """A connection of a client that the member trusts: here, one with the member's own key."""
    return await site.dial(site.node.own)


async def test_curl_calls_files_forms_and_they_stream_all_the_same(tmp_path: Path) -> None:
    async with alone(tmp_path, ROUTES) as site:
        for size in (10, 100_000, 5 * MIB):
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            assert (await site.ask("POST", "/up", b"=" * size, form)).metadata == size


async def test_a_slow_handler_holds_its_client_back(tmp_path: Path) -> None:
    async with alone(tmp_path, ROUTES) as site:
        watch(site)
        client = await site.connect()
        size = 64 * MIB
        head = h11.Request(method="POST", target="/work", headers=[("host", "l"), ("content-length", str(size))])
        await client.send(head)
        sent = 0
        with trio.move_on_after(0.5):
            while sent < size:
                await client.stream.send_all(b"x" * 65536)
                sent += 65536
        # Only what the kernel's socket buffers take: nobody reads a body that the handler does not ask for.
        assert sent < 4 * MIB
        site.node.gate.set()  # type: ignore[attr-defined]
        assert (await client.answer()).status == 200


async def test_a_body_that_nobody_wanted_does_not_end_the_connection(tmp_path: Path) -> None:
    async with alone(tmp_path, ROUTES) as site:
        client = await site.connect()
        for _ in range(3):
            assert (await client.ask("POST", "/nothing", b"x" * 1000)).status == 404
        assert (await client.ask("POST", "/nothing", b"x" * MIB)).status == 404


async def test_a_client_that_waits_for_100_continue_gets_it_when_its_body_is_wanted(tmp_path: Path) -> None:
    async with alone(tmp_path, ROUTES) as site:
        for target, wanted in (("/up", True), ("/nothing", False)):
            client = await site.connect()
            headers = [("host", "l"), ("content-length", "5"), ("expect", "100-continue")]
            await client.send(h11.Request(method="POST", target=target, headers=headers))
            first = await client.next()
            assert isinstance(first, h11.InformationalResponse) == wanted
            if wanted:
                await client.send(h11.Data(data=b"12345"), h11.EndOfMessage())
                assert (await client.answer()).metadata == 5
            else:
                assert first.status_code == 404


async def test_a_wait_ends_with_its_client(tmp_path: Path) -> None:
    async with alone(tmp_path, ROUTES) as site:
        seen = watch(site)
        client = await site.connect()
        await client.send(h11.Request(method="GET", target="/long", headers=[("host", "l")]), h11.EndOfMessage())
        await within(2, lambda: seen == ["began"])
        await client.stream.aclose()
        await within(2, lambda: seen == ["began", "ended"])


async def test_a_change_goes_on_without_its_client(tmp_path: Path) -> None:
    async with alone(tmp_path, ROUTES) as site:
        seen = watch(site)
        client = await site.connect()
        await client.send(h11.Request(method="POST", target="/work", headers=[("host", "l")]), h11.EndOfMessage())
        await within(2, lambda: seen == ["began"])
        await client.stream.aclose()
        site.node.gate.set()  # type: ignore[attr-defined]
        await within(2, lambda: not site.server.busy)


async def test_at_most_32_requests_are_in_work_and_members_have_slots_of_their_own(tmp_path: Path) -> None:
    async with alone(tmp_path, ROUTES) as site, trio.open_nursery() as nursery:
        seen = watch(site)
        for _ in range(40):
            nursery.start_soon(site.ask, "POST", "/work")
        await within(2, lambda: len(seen) == 32)
        await trio.testing.wait_all_tasks_blocked()
        assert len(seen) == 32
        member = await site.dial(site.node.own)
        await member.send(h11.Request(method="POST", target="/work", headers=[("host", "l")]), h11.EndOfMessage())
        await within(2, lambda: len(seen) == 33)
        site.node.gate.set()  # type: ignore[attr-defined]
        assert (await member.answer()).status == 200


async def test_strangers_with_half_a_body_do_not_hold_up_others(tmp_path: Path) -> None:
    async with alone(tmp_path, ROUTES) as site:
        for _ in range(12):
            stranger = await site.dial()
            headers = [("host", "l"), ("content-length", "10")]
            await stranger.send(h11.Request(method="POST", target="/guest", headers=headers))
        with trio.fail_after(2):
            assert (await site.ask("POST", "/guest", {})).status == 200


async def test_what_is_no_http_is_refused_in_json(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:
        for garbage in (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n"):
            client = await site.connect()
            await client.stream.send_all(garbage)
            data = b""
            while chunk := await client.stream.receive_some(65536):
                data += chunk
            assert data.startswith(b"HTTP/1.1 400") and b'"error_code":400' in data


async def test_a_malformed_body_is_the_fault_of_its_client(tmp_path: Path) -> None:
    async with alone(tmp_path, ROUTES) as site:
        client = await site.connect()
        await client.stream.send_all(b"POST /up HTTP/1.1\r\nhost: l\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
        answer = await client.answer()
        assert (answer.status, answer.json["error"].partition(":")[0]) == (400, "malformed body")
        assert await client.stream.receive_some(1) == b""


async def test_a_client_that_goes_in_the_middle_of_its_body_leaves_nothing_behind(tmp_path: Path) -> None:
    async with alone(tmp_path, ROUTES) as site:
        client = await site.connect()
        head = h11.Request(method="POST", target="/up", headers=[("host", "l"), ("content-length", "10")])
        await client.send(head, h11.Data(data=b"12345"))
        await within(2, lambda: site.server.busy == 1)
        await client.stream.aclose()
        await within(2, lambda: not site.server.busy)


async def test_headers_without_end_are_refused(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:
        client = await site.connect()
        await client.stream.send_all(b"GET / HTTP/1.1\r\nx: " + b"y" * 100_000)
        assert b" 431 " in await client.stream.receive_some(65536)


async def test_connections_without_a_request_end_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "KEEP_ALIVE", 0.3)
    async with alone(tmp_path, ROUTES) as site:
        seen = watch(site)
        silent, slow, working = await site.connect(), await site.connect(), await site.connect()
        await silent.ask("GET", "/1.0")
        await slow.stream.send_all(b"GET / HTTP/1.1\r\n")
        await working.send(h11.Request(method="POST", target="/work", headers=[("host", "l")]), h11.EndOfMessage())
        with trio.fail_after(3):
            assert await silent.stream.receive_some(1) == b""
            await slow.stream.receive_some(1000)
        await within(1, lambda: seen == ["began"])
        site.node.gate.set()  # type: ignore[attr-defined]
        assert (await working.answer()).status == 200


async def test_a_websocket_where_there_is_none_is_an_error(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:
        for path, status in (("/1.0", 501), ("/1.0/nothing", 404), ("/1.0/operations/x/websocket", 400)):
            answer = await (await site.connect()).upgrade(path)
            assert (answer.status, answer.json["type"]) == (status, "error")


async def test_what_comes_in_small_chunks_is_handled_as_one_and_ends_where_it_ends(tmp_path: Path) -> None:
    async def count(call: Call) -> Response:
        return responses.sync([len(chunk) async for chunk in call.stream()])

    async with alone(tmp_path, routes_of(count=route("POST", "/count")(count))) as site:
        client = await site.connect()
        request = b"POST /count HTTP/1.1\r\nhost: l\r\ntransfer-encoding: chunked\r\n\r\n"
        request += b"4\r\nabcd\r\n" * 100 + b"0\r\n\r\n"
        await client.stream.send_all(request * 2)  # The second one is there when the first ends.
        data = b""
        with trio.fail_after(20):
            while data.count(b'"metadata":[400]') < 2:
                more = await client.stream.receive_some(65536)
                assert more, data
                data += more


async def test_many_requests_on_one_connection_and_several_in_one_packet(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:
        client = await site.connect()
        one = b"GET / HTTP/1.1\r\nhost: l\r\n\r\n"
        await client.stream.send_all(one * 3)
        data = b""
        with trio.fail_after(2):
            while data.count(b"HTTP/1.1 200") < 3:
                data += await client.stream.receive_some(65536)
        other = await site.connect()
        for _ in range(1500):
            assert (await other.ask("GET", "/1.0")).status == 200


async def test_draining_ends_resting_connections_and_lets_requests_finish(tmp_path: Path) -> None:
    async with alone(tmp_path, ROUTES) as site:
        seen = watch(site)
        resting, working = await site.connect(), await site.connect()
        await resting.ask("GET", "/1.0")
        await working.send(h11.Request(method="POST", target="/work", headers=[("host", "l")]), h11.EndOfMessage())
        await within(2, lambda: seen == ["began"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(site.server.drain, 5.0)
            with trio.fail_after(2):
                assert await resting.stream.receive_some(1) == b""
            site.node.gate.set()  # type: ignore[attr-defined]
            assert (await working.answer()).status == 200


async def test_the_unix_socket_belongs_to_one_daemon(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:
        assert oct(site.socket.stat().st_mode & 0o777) == "0o660"
        with pytest.raises(NodeError, match="LXD is already running"):
            bind_unix(site.socket)
    # Its daemon is gone, the file is still there.
    bind_unix(site.socket, group=0).close()


async def test_a_client_is_known_by_its_certificate_whoever_signed_it(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:
        stranger = await site.dial(make())
        assert (await stranger.ask("GET", "/1.0")).metadata["auth"] == "untrusted"
        member = await site.dial(site.node.own)
        assert (await member.ask("GET", "/1.0")).metadata["auth"] == "trusted"


async def test_with_a_ca_only_certificates_of_it_make_clients(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:
        signer = authority()
        shown, own = site.node.shown, site.node.own
        site.network = Network(site.server, shown, own, site.server.serve, signer.certificate)
        await site.nursery.start(site.network.run)
        await site.network.listen([f"127.0.0.1:{free_port()}"])
        signed = issued(signer)
        for pair, auth in ((make(), "untrusted"), (signed, "trusted")):
            stored = {"type": "client", "name": "c", "certificate": base64.b64encode(pair.der).decode()}
            assert (await site.ask("POST", "/1.0/certificates", stored)).status == 201
            assert (await (await site.dial(pair)).ask("GET", "/1.0")).metadata["auth"] == auth
        # Members are known by their keys, whoever signed them.
        assert (await (await site.dial(site.node.own)).ask("GET", "/1.0")).metadata["auth"] == "trusted"


@pytest.mark.parametrize("authority", [None, make().certificate])
async def test_a_certificate_that_cannot_be_read_makes_a_stranger(tmp_path: Path, authority: str | None) -> None:
    async with alone(tmp_path) as site:
        site.network = Network(site.server, site.node.shown, site.node.own, site.server.serve, authority)
        await site.nursery.start(site.network.run)
        await site.network.listen([f"127.0.0.1:{free_port()}"])
        stranger = await site.dial(pair_of_odd_version())
        assert (await stranger.ask("GET", "/1.0")).metadata["auth"] == "untrusted"


async def test_alpn_chooses_raft(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:
        context = client_context(tmp_path, site.node.own)
        for offered, chosen in (
            (["lxd-node-raft/1"], "lxd-node-raft/1"),
            (["h2", "http/1.1"], "http/1.1"),
            (["acme"], None),
        ):
            context.set_alpn_protocols(offered)
            host, _, port = min(site.network.addresses).rpartition(":")
            stream = await trio.open_ssl_over_tcp_stream(host, int(port), ssl_context=context, https_compatible=True)
            await stream.do_handshake()
            assert stream.selected_alpn_protocol() == chosen
            if chosen == "lxd-node-raft/1":
                assert await stream.receive_some(1000) == b"raft for " + site.node.own.fingerprint.encode()
            await trio.aclose_forcefully(stream)


async def test_old_tls_and_garbage_are_turned_away(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:
        host, _, port = min(site.network.addresses).rpartition(":")
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 5000, b"\x16\x03\x01\xff\xff"):
            stream = await trio.open_tcp_stream(host, int(port))
            await stream.send_all(garbage)
            await stream.send_eof()
            with trio.fail_after(3):
                while await stream.receive_some(1000):
                    pass
            await stream.aclose()
        context = client_context(tmp_path)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        stream = await trio.open_ssl_over_tcp_stream(host, int(port), ssl_context=context, https_compatible=True)
        await stream.do_handshake()
        assert stream.version() == "TLSv1.2"
        await trio.aclose_forcefully(stream)


async def test_half_handshakes_hold_up_nobody_and_time_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "HANDSHAKE_TIMEOUT", 0.5)
    async with alone(tmp_path) as site:
        host, _, port = min(site.network.addresses).rpartition(":")
        stalled = [await trio.open_tcp_stream(host, int(port)) for _ in range(40)]
        with trio.fail_after(2):
            assert (await (await site.dial()).ask("GET", "/")).status == 200
            for stream in stalled:
                assert await stream.receive_some(1) == b""
                await stream.aclose()


async def test_another_certificate_and_address_take_effect_at_once(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:
        before, first = await site.dial(), min(site.network.addresses)
        fresh = make()
        site.network.show(fresh, site.node.own)
        shown = ssl.DER_cert_to_PEM_cert((await site.dial()).stream.getpeercert(binary_form=True))  # type: ignore[attr-defined]
        assert shown.split() == fresh.certificate.split()
        await site.network.listen([f"127.0.0.1:{free_port()}"])
        assert (await (await site.dial()).ask("GET", "/")).status == 200
        assert (await before.ask("GET", "/")).status == 200
        with pytest.raises(OSError):
            await trio.open_tcp_stream("127.0.0.1", int(first.rpartition(":")[2]))
        await site.network.listen([])
        assert not site.network.addresses


@pytest.mark.parametrize("address", ["203.0.113.7:8443", "a..b:8443"])
async def test_an_address_that_cannot_be_bound_leaves_the_old_one(tmp_path: Path, address: str) -> None:
    async with alone(tmp_path) as site:
        before = site.network.addresses
        with pytest.raises(NodeError, match="cannot listen on https socket: "):
            await site.network.listen([address])
        assert site.network.addresses == before
        assert (await (await site.dial()).ask("GET", "/")).status == 200


async def test_an_address_that_somebody_took_meanwhile_costs_no_other(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:
        kept, lost = min(site.network.addresses), f"127.0.0.1:{free_port()}"
        await site.network.listen([kept, lost])
        with socket.socket() as other, socket.socket() as thief:
            other.bind(("127.0.0.1", 0))
            other.listen()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_steal, thief, lost)
                with pytest.raises(NodeError, match="cannot listen on https socket: "):
                    await site.network.listen([f"127.0.0.1:{other.getsockname()[1]}"])
            assert site.network.addresses == {kept}
            assert (await (await site.dial()).ask("GET", "/")).status == 200


async def _steal(thief: socket.socket, address: str) -> None:
    """Takes an address as soon as it is free."""
    while True:
        try:
            thief.bind(("127.0.0.1", int(address.rpartition(":")[2])))
        except OSError:
            await trio.sleep(0.01)
        else:
            thief.listen()
            return


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.1", "10.0.0.1", 8443),
        ("10.0.0.1:9", "10.0.0.1", 9),
        (":9", "", 9),
        ("[::]", "::", 8443),
        ("[::1]:9", "::1", 9),
        ("::1", "::1", 8443),
        ("host.example", "host.example", 8443),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert parse_address(text) == (host, port)


def test_a_port_must_be_one() -> None:
    for text in ("host:x", "host:70000", "host:"):
        with pytest.raises(Invalid, match="no port"):
            parse_address(text)
