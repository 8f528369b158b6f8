"""Files of containers, in the form of the oracle's cases: see README.md here."""

from dtlib import case

C = "/1.0/containers"
F = C + "/dt-1/files"


def _owned(uid="0", gid="0", mode="0644", kind="file", **more):
    return {"X-LXD-uid": uid, "X-LXD-gid": gid, "X-LXD-mode": mode, "X-LXD-type": kind, **more}


def _tour(t):
    t.POST(F + "?path=/tmp/one", raw=b"first\n", headers=_owned("7", "8", "0640"))
    t.GET(F + "?path=/tmp/one", as_="text")
    t.POST(F + "?path=/tmp/one", raw=b"second\n", headers=_owned(**{"X-LXD-write": "append"}), ext="file_append")
    t.GET(F + "?path=/tmp/one", as_="text")
    t.POST(F + "?path=/tmp/one", raw=b"new\n", headers=_owned(**{"X-LXD-write": "overwrite"}))
    t.GET(F + "?path=/tmp/one", as_="text")
    t.POST(F + "?path=/tmp/one", raw=b"x", headers=_owned(**{"X-LXD-write": "sideways"}), ext="file_append")
    t.POST(F + "?path=/tmp/made", raw=b"", headers=_owned("3", "4", "0750", "directory"), ext="directory_manipulation")
    t.GET(F + "?path=/tmp/made", ext="directory_manipulation")
    t.POST(F + "?path=/tmp/made/in", raw=b"in", headers=_owned())
    t.GET(F + "?path=/tmp/made", ext="directory_manipulation")
    t.POST(F + "?path=/tmp/link", raw=b"/tmp/one", headers=_owned(kind="symlink"), ext="file_symlinks")
    t.GET(F + "?path=/tmp/link", as_="text", ext="file_get_symlink")
    t.POST(F + "?path=/tmp/bare", raw=b"bare")
    t.GET(F + "?path=/tmp/bare", as_="text")
    t.POST(F + "?path=/tmp/odd", raw=b"x", headers={"X-LXD-type": "pipe"})
    t.POST(F + "?path=/tmp/octal", raw=b"x", headers={"X-LXD-mode": "rw"})
    t.POST(F + "?path=/no/such/place", raw=b"x", headers=_owned())
    t.DELETE(F + "?path=/tmp/made", ext="file_delete")
    t.DELETE(F + "?path=/tmp/made/in", ext="file_delete")
    t.DELETE(F + "?path=/tmp/made", ext="file_delete")
    t.DELETE(F + "?path=/tmp/made", ext="file_delete")
    t.GET(F + "?path=/tmp/made")


@case("core")
def stopped(t):
    t.container("dt-1")
    _tour(t)


@case("core")
def running(t):
    t.container("dt-1", start=True)
    _tour(t)


@case("core")
def errors(t):
    t.container("dt-1")
    t.GET(F)
    t.GET(F + "?path=")
    t.GET(F + "?path=/no/such")
    t.POST(F, raw=b"x")
    t.DELETE(F, ext="file_delete")
    t.DELETE(F + "?path=/no/such", ext="file_delete")
    t.GET(C + "/nosuch/files?path=/etc/passwd")
    t.POST(C + "/nosuch/files?path=/tmp/x", raw=b"x")
    t.PUT(F + "?path=/tmp/x", {})


@case("core")
def confined(t):
    t.container("dt-1")
    t.GET(F + "?path=/../../../../etc/hostname")
    t.POST(F + "?path=/tmp/out", raw=b"/../../../etc/no-such", headers=_owned(kind="symlink"), ext="file_symlinks")
    t.GET(F + "?path=/tmp/out", as_="text", ext="file_get_symlink")
    t.GET(F + "?path=etc/passwd", as_="size")
