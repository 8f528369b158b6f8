"""The console of containers, in the form of the oracle's cases: see README.md here."""

from dtlib import case

C = "/1.0/containers"
P = C + "/dt-1/console"


@case("console")
def attach(t):
    t.container("dt-1", start=True)
    r = t.POST(P, {"width": 80, "height": 24}, wait=False)
    fds = ((r.meta or {}).get("metadata") or {}).get("fds") or {}
    t.record("fds", {"names": sorted(fds)})
    sockets = {name: t.ws(f"{r.opid}/websocket?secret={secret}") for name, secret in sorted(fds.items())}
    t.record("upgraded", {name: one.status for name, one in sockets.items()})
    for name in ("0", "control"):
        if name in sockets and sockets[name].status == 101:
            sockets[name].close()
    done = t.wait_op(r.opid or "/1.0/operations/none")
    t.record("after", {"status_code": done.get("status_code")})


@case("console")
def ring(t):
    t.container("dt-1", start=True)
    t.GET(P, as_="size")
    t.DELETE(P)
    t.GET(P, as_="size")
    t.quiet("PUT", C + "/dt-1/state", {"action": "stop", "force": True, "timeout": 30})
    t.GET(P, as_="size")
    t.DELETE(P)


@case("console")
def errors(t):
    t.container("dt-1")
    t.POST(P, {"width": 80, "height": 24})
    t.POST(P, raw=b"{", headers={"Content-Type": "application/json"})
    t.POST(C + "/nosuch/console", {})
    t.GET(C + "/nosuch/console")
    t.DELETE(C + "/nosuch/console")
    t.GET(P)
