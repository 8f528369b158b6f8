"""Changes of containers: merges, ETags, copies and lists, in the form of the oracle's cases: see README.md here."""

from dtlib import case

C = "/1.0/containers"
VOL = [
    ("metadata/config/volatile.*", "type"),
    ("metadata/expanded_config/volatile.*", "type"),
    ("metadata/*/config/volatile.*", "type"),
    ("metadata/*/expanded_config/volatile.*", "type"),
]


@case("patch etag")
def merges(t):
    t.quiet(
        "POST",
        "/1.0/profiles",
        {"name": "dt-p2", "config": {"user.p": "2", "user.a": "profile"}, "devices": {"n": {"type": "none"}}},
    )
    t.container("dt-1", config={"user.a": "1"})
    for body in (
        {},
        {"config": {}},
        {"devices": {}},
        {"profiles": ["dt-p2", "default"]},
        {"profiles": ["default", "default"]},
        {"architecture": "vax"},
        {"architecture": ""},
        {"ephemeral": False},
        {"ephemeral": "yes"},
        {"config": {"volatile.base_image": "x"}},
        {"config": {"image.os": "other"}},
        {"devices": {"m": {"type": "disk", "path": "/m", "source": "/tmp"}}},
        {"devices": {"m": {"type": "disk", "path": "/m2", "source": "/tmp"}}},
        {"devices": {"m": {}}},
        {"name": "other", "status": "Running", "unknown": 1},
        [],
        None,
    ):
        t.PATCH(C + "/dt-1", body)
        t.GET(C + "/dt-1", mask=VOL)


@case("etag")
def etags(t):
    t.container("dt-1", config={"user.a": "1"})
    first = t.quiet("GET", C + "/dt-1")
    body = {
        k: (first.meta or {}).get(k)
        for k in ("architecture", "config", "devices", "ephemeral", "profiles", "description")
    }

    def same(moment):
        now = t.quiet("GET", C + "/dt-1")
        t.record(moment, {"same": now.etag == first.etag})

    for header in ("", "*", "W/x", first.etag.upper()):
        t.PATCH(C + "/dt-1", {}, headers={"If-Match": header})
    t.quiet("PATCH", C + "/dt-1", {"description": "new"})
    same("after another description")
    t.quiet("PATCH", C + "/dt-1", {"ephemeral": True})
    same("after another flag")
    t.quiet("PUT", C + "/dt-1", body)
    same("after the old values")
    t.quiet("PUT", C + "/dt-1/state", {"action": "start", "timeout": 30})
    same("after a start")
    t.quiet("POST", C + "/dt-1/snapshots", {"name": "s"})
    same("after a snapshot")
    t.PUT(C + "/dt-1/state", {"action": "freeze"}, headers={"If-Match": "wrong"})
    t.DELETE(C + "/dt-1", headers={"If-Match": "wrong"})


@case("core")
def lists(t):
    t.container("dt-b")
    t.container("dt-a", config={"user.a": "1"})
    for query in (
        "",
        "?recursion=0",
        "?recursion=1",
        "?recursion=x",
        "?recursion=",
        "?project=default",
        "?unknown=1",
    ):
        t.GET(C + query, mask=VOL)
    t.quiet("POST", C + "/dt-a/snapshots", {"name": "s"})
    for query in ("?recursion=0", "?recursion=x"):
        t.GET(C + "/dt-a/snapshots" + query, mask=[*VOL, ("metadata/*/created_at", "type")])
    for path in ("/", "/dt-a/", "//dt-a", "/dt-a/nosuch", "/dt-a/snapshots/", "/dt%2da", "/DT-A"):
        t.GET(C + path, mask=VOL)


@case("core")
def copies(t):
    t.quiet("POST", "/1.0/profiles", {"name": "dt-p", "config": {"user.p": "1"}})
    t.container(
        "dt-1",
        config={"user.a": "1"},
        profiles=["default", "dt-p"],
        description="first",
        devices={"m": {"type": "disk", "path": "/m", "source": "/tmp"}},
        ephemeral=True,
    )
    t.quiet("POST", C + "/dt-1/snapshots", {"name": "s"})
    copy = {"type": "copy", "source": "dt-1"}
    for number, body in enumerate(
        (
            {},
            {"profiles": [], "devices": {"root": {"type": "disk", "path": "/", "pool": "default"}}},
            {"profiles": ["default"], "config": {"user.a": "3", "user.b": "2"}, "devices": {"m": {"type": "none"}}},
            {"description": "second", "ephemeral": True, "architecture": "i686"},
            {"config": {"volatile.base_image": "mine"}},
            {"config": {"nosuch": "1"}},
            {"instance_type": "c1-m1"},
        ),
        2,
    ):
        t.POST(C, {"name": f"dt-{number}", "source": copy, "profiles": ["default", "dt-p"], **body})
        t.GET(f"{C}/dt-{number}", mask=VOL)
        t.GET(f"{C}/dt-{number}/snapshots")
    t.POST(C, {"name": "dt-1", "profiles": ["default"], "source": copy})
    t.POST(C, {"name": "dt-20", "source": {"type": "copy", "source": "dt-1/s/t"}})
    t.POST(C, {"name": "dt-21", "source": {"type": "copy", "source": "/s"}})
    t.POST(C, {"name": "dt-22", "source": {"type": "copy", "source": "dt-1/"}})


@case("core")
def states(t):
    """A frozen container through everything, and words of actions that do not fit."""
    t.container("dt-1", start=True)
    S = C + "/dt-1/state"

    def show():
        found = t.quiet("GET", C + "/dt-1").meta or {}
        t.record("status", {key: found.get(key) for key in ("status", "status_code")})

    t.PUT(S, {"action": "freeze"})
    t.PUT(S, {"action": "restart", "timeout": 5})
    t.PUT(S, {"action": "start"})
    show()
    t.POST(C + "/dt-1/snapshots", {"name": "s"})
    show()
    t.POST(C, {"name": "dt-2", "profiles": ["default"], "source": {"type": "copy", "source": "dt-1"}})
    show()
    t.PUT(S, {"action": "stop", "timeout": 10})
    show()
    t.quiet("PUT", S, {"action": "start", "timeout": 30})
    t.quiet("PUT", S, {"action": "freeze"})
    t.PUT(S, {"action": "stop", "force": True})
    show()
    t.quiet("PUT", S, {"action": "start", "timeout": 30})
    t.quiet("PUT", S, {"action": "freeze"})
    t.PUT(S, {"action": "restart", "force": True, "timeout": 5})
    show()
    t.PUT(S, {"action": "freeze"})
    t.PUT(C + "/dt-1", {"restore": "s"})
    show()
    t.quiet("POST", C + "/dt-1/exec", {"command": ["sh", "-c", "kill -STOP 1; true"]})
    for action in ("Start", " start", "pause", "delete", None):
        t.PUT(S, {"action": action})
    t.PUT(S, {"action": "stop", "timeout": 1.5})
    t.PUT(S, {"action": "stop", "force": "yes"})
    t.PUT(S, [])


@case("core image_compression_algorithm image_create_aliases")
def publishes(t):
    t.container("dt-1")
    t.quiet("POST", C + "/dt-1/snapshots", {"name": "s"})
    images = "/1.0/images"
    m = [("op/metadata/*", "type")]
    for body in (
        {"source": {"type": "container", "name": "dt-1"}, "compression_algorithm": "none", "properties": {"a": "b"}},
        {"source": {"type": "container", "name": "dt-1"}, "compression_algorithm": "nosuch"},
        {"source": {"type": "container", "name": "dt-1"}, "compression_algorithm": "gzip -9; touch /tmp/dt-evil"},
        {
            "source": {"type": "snapshot", "name": "dt-1/s"},
            "compression_algorithm": "bzip2",
            "public": True,
            "properties": {"a": "d"},
        },
        {
            "source": {"type": "container", "name": "dt-1"},
            "filename": "mine",
            "properties": {"a": "e"},
            "aliases": [{"name": "dt-one", "description": "x"}, {"name": "dt-two"}],
        },
        {"source": {"type": "container", "name": "dt-1/s"}},
        {"source": {"type": "snapshot", "name": "dt-1"}},
        {"source": {"type": "snapshot", "name": "dt-1/nosuch"}},
        {"source": {"type": "container", "name": ""}},
        {"source": {"type": "container"}},
    ):
        r = t.POST(images, body, opmask=m)
        fp = ((r.final or {}).get("metadata") or {}).get("fingerprint")
        if fp:
            shown = t.quiet("GET", f"{images}/{fp}").meta or {}
            shown = {
                k: shown.get(k)
                for k in (
                    "filename",
                    "public",
                    "properties",
                    "aliases",
                    "auto_update",
                    "cached",
                    "architecture",
                    "expires_at",
                    "created_at",
                    "update_source",
                )
            }
            t.record("image", t.norm(shown))
            export = t.raw_req("GET", f"{images}/{fp}/export")
            t.record(
                "export",
                {
                    "begins": export.body[:2].hex(),
                    "as": export.headers.get("content-disposition", "").replace(fp, "<fp>"),
                },
            )


@case("core")
def odd_files(t):
    t.container("dt-1", start=True)
    F = C + "/dt-1/files?path="
    t.GET(F + "/proc/self/status", as_="size")
    t.GET(F + "/proc", as_="size")
    t.quiet("POST", C + "/dt-1/exec", {"command": ["mkfifo", "/tmp/pipe"]})
    t.GET(F + "/tmp/pipe", as_="size")
    t.POST(F + "/tmp/pipe", raw=b"x")
    t.DELETE(F + "/tmp/pipe")
    t.POST(F + "/tmp/a%20b", raw=b"x")
    t.POST(F + "/tmp/dir/", raw=b"", headers={"X-LXD-type": "directory"})
    t.GET(F + "/tmp/dir/")
    t.POST(F + "/tmp/dir", raw=b"", headers={"X-LXD-type": "directory", "X-LXD-uid": "5", "X-LXD-mode": "0700"})
    t.GET(F + "/tmp/dir")
    t.POST(F + "/tmp/dir", raw=b"", headers={"X-LXD-type": "directory"})
    t.GET(F + "/tmp/dir")
    t.POST(F + "/", raw=b"", headers={"X-LXD-type": "directory"})
    t.DELETE(F + "/")
    t.POST(F + "/tmp/mode", raw=b"x", headers={"X-LXD-mode": "4755"})
    t.GET(F + "/tmp/mode", as_="text")
    t.POST(F + "/tmp/mode2", raw=b"x", headers={"X-LXD-mode": "04755"})
    t.GET(F + "/tmp/mode2", as_="text")
    t.POST(F + "/tmp/link", raw=b"/tmp/through", headers={"X-LXD-type": "symlink"})
    t.POST(F + "/tmp/link", raw=b"written")
    t.GET(F + "/tmp/through", as_="text")
    t.DELETE(F + "/tmp/link")
    t.POST(F + "/tmp/loop", raw=b"/tmp/loop", headers={"X-LXD-type": "symlink"})
    t.POST(F + "/tmp/loop", raw=b"x")
    t.GET(F + "/tmp/" + "x" * 300)
    t.POST(F + "/tmp/" + "x" * 300, raw=b"x")
    t.GET(F + "/etc/passwd/x")
    t.POST(F + "/etc/passwd/x", raw=b"x")
    r = t.raw_req("GET", F + "/etc/passwd", headers={"Range": "bytes=0-3"})
    t.record(
        "range", {"http": r.status, "len": len(r.body), "range": r.headers.get("content-range", "").partition("/")[0]}
    )
