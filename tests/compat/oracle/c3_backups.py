"""Backups of containers, in the form of the oracle's cases: see README.md here."""

from dtlib import case

C = "/1.0/containers"
B = C + "/dt-1/backups"
WHEN = [("metadata/created_at", "type"), ("metadata/expires_at", "type")]


@case("container_backup")
def life(t):
    t.container("dt-1", config={"user.a": "1"})
    t.GET(B)
    t.POST(B, {"name": "b0", "container_only": False, "optimized_storage": False})
    t.GET(B)
    t.GET(B + "/b0", mask=WHEN)
    t.POST(B + "/b0", {"name": "b1"})
    t.GET(B + "/b0")
    t.GET(B + "/b1", mask=WHEN)
    t.GET(B + "/b1/export", as_="size")
    t.DELETE(B + "/b1")
    t.GET(B)
    t.GET(B + "/b1/export")


@case("container_backup")
def errors(t):
    t.container("dt-1")
    t.POST(B, {"name": "b0", "container_only": True})
    t.POST(B, {"name": "b0", "container_only": True})
    t.POST(B, {"name": "a/b"})
    t.POST(B, raw=b"{", headers={"Content-Type": "application/json"})
    t.POST(C + "/nosuch/backups", {"name": "b"})
    t.GET(C + "/nosuch/backups")
    t.GET(B + "/nosuch")
    t.GET(B + "/nosuch/export")
    t.DELETE(B + "/nosuch")
    t.POST(B + "/nosuch", {"name": "x"})
    t.POST(B + "/b0", {"name": "x/y"})


@case("container_backup")
def imported(t):
    t.container("dt-1", config={"user.a": "1"})
    t.quiet("POST", C + "/dt-1/snapshots", {"name": "s0"})
    t.quiet("POST", B, {"name": "b0"})
    data = t.raw_req("GET", B + "/b0/export").body
    octets = {"Content-Type": "application/octet-stream"}
    t.POST(C, raw=data, headers=octets)
    t.quiet("DELETE", C + "/dt-1")
    t.POST(C, raw=data, headers=octets)
    t.GET(C + "/dt-1/snapshots")
    t.POST(C, raw=b"no tarball", headers=octets)
