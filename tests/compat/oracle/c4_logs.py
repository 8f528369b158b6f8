"""Logs of containers, in the form of the oracle's cases: see README.md here."""

from dtlib import case

C = "/1.0/containers"
L = C + "/dt-1/logs"


@case("core")
def life(t):
    t.container("dt-1")
    t.GET(L)
    t.quiet("PUT", C + "/dt-1/state", {"action": "start", "timeout": 30})
    listed = t.quiet("GET", L).meta or []
    names = {one.rpartition("/")[2] for one in listed}
    t.record("names", {name: name in names for name in ("lxc.log", "lxc.conf", "console.log")})
    t.GET(L + "/lxc.conf", as_="size")
    t.GET(L + "/lxc.log", as_="size")
    t.DELETE(L + "/lxc.log")
    t.DELETE(L + "/lxc.conf")


@case("core")
def errors(t):
    t.container("dt-1")
    t.GET(L + "/nosuch")
    t.GET(L + "/exec_no-such.stdout")
    t.GET(L + "/..")
    t.GET(L + "/..%2f..%2fserver.key")
    t.DELETE(L + "/nosuch")
    t.DELETE(L + "/exec_no-such.stdout")
    t.GET(C + "/nosuch/logs")
    t.GET(C + "/nosuch/logs/lxc.log")
    t.POST(L, {})
