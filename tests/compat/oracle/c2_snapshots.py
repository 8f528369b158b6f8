"""Snapshots of containers, in the form of the oracle's cases: see README.md here."""

from dtlib import case

C = "/1.0/containers"
S = C + "/dt-1/snapshots"
WHEN = [("metadata/created_at", "type"), ("metadata/last_used_at", "type"), ("metadata/*/created_at", "type")]
VOL = [("metadata/config/volatile.*", "type"), ("metadata/expanded_config/volatile.*", "type")]


@case("core")
def life(t):
    t.container("dt-1", config={"user.a": "1"})
    t.GET(S)
    t.POST(S, {"name": "s0"})
    t.POST(S, {"name": "s1", "stateful": False})
    t.GET(S)
    t.GET(S + "/s0", mask=WHEN + VOL)
    t.POST(S + "/s0", {"name": "s2"})
    t.GET(S + "/s0")
    t.GET(S + "/s2", mask=WHEN + VOL)
    t.DELETE(S + "/s2")
    t.DELETE(S + "/s2")
    t.GET(S)
    t.DELETE(C + "/dt-1")
    t.GET(S + "/s1")


@case("core")
def unnamed(t):
    t.container("dt-1")
    for _ in range(2):
        t.POST(S, {})
    t.GET(S)


@case("core")
def restore(t):
    t.container("dt-1", config={"user.a": "1"})
    t.quiet("POST", C + "/dt-1/files?path=/tmp/kept", raw=b"before", headers={"X-LXD-type": "file"})
    t.quiet("POST", S, {"name": "s0"})
    t.quiet("POST", C + "/dt-1/files?path=/tmp/kept", raw=b"after", headers={"X-LXD-type": "file"})
    t.PATCH(C + "/dt-1", {"config": {"user.a": "2"}})
    t.PUT(C + "/dt-1", {"restore": "s0"})
    t.GET(C + "/dt-1/files?path=/tmp/kept", as_="text")
    t.GET(C + "/dt-1", mask=WHEN + VOL)
    t.PUT(C + "/dt-1", {"restore": "nosuch"})


@case("core")
def errors(t):
    t.container("dt-1")
    t.POST(S, {"name": "s0"})
    t.POST(S, {"name": "s0"})
    t.POST(S, {"name": "a/b"})
    t.POST(S, {"name": "s1", "stateful": True})
    t.POST(S, raw=b"{", headers={"Content-Type": "application/json"})
    t.POST(C + "/nosuch/snapshots", {"name": "s"})
    t.GET(C + "/nosuch/snapshots")
    t.GET(S + "/nosuch")
    t.DELETE(S + "/nosuch")
    t.POST(S + "/nosuch", {"name": "x"})
    t.quiet("POST", S, {"name": "s9"})
    t.POST(S + "/s9", {"name": "s0"})
    t.POST(S + "/s9", {"name": "x/y"})
    t.POST(S + "/s9", {"name": ""})


@case("core")
def copied(t):
    t.container("dt-1", config={"user.a": "1"})
    t.quiet("POST", S, {"name": "s0"})
    t.POST(C, {"name": "dt-2", "profiles": ["default"], "source": {"type": "copy", "source": "dt-1/s0"}})
    t.GET(C + "/dt-2/snapshots")
    t.POST(C, {"name": "dt-3", "source": {"type": "copy", "source": "dt-1/nosuch"}})
