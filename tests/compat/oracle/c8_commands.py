"""Commands of containers beyond the oracle's own cases, in their form: see README.md here."""

from dtlib import case

C = "/1.0/containers"
P = C + "/dt-1/exec"


@case("container_exec_signal_handling")
def control(t):
    """What the control socket takes that makes no sense leaves the command alone."""
    t.container("dt-1", start=True)
    wait = ["sh", "-c", "trap 'echo told; exit 7' TERM; echo ready; while :; do sleep 0.1; done"]
    nonsense = [
        {"command": "signal", "signal": 999},
        {"command": "signal", "signal": -1},
        {"command": "signal", "signal": 0},
        {"command": "dance"},
        {"command": "window-resize", "args": {"width": "0", "height": "0"}},
        {"command": "window-resize", "args": {"width": "70000", "height": "70000"}},
        {"command": "window-resize", "args": {"width": "-1", "height": "x"}},
        {"command": "window-resize", "args": None},
    ]
    for interactive in (False, True):
        for one in nonsense:
            t.exec("dt-1", wait, interactive=interactive, control=[one, {"command": "signal", "signal": 15}], delay=0.5)


@case("core")
def odd(t):
    t.container("dt-1", start=True)

    def e(*command, **more):
        t.exec("dt-1", *command, **more)

    e(["echo", "ä ö", "", "a b", "'\"$x"])
    e(["sh", "-c", "echo [$A] [$B] [$C]"], environment={"A": "a=b", "B": "", "C": "two\nlines"})
    e(["sh", "-c", "echo $HOME; pwd"], environment={"HOME": "/no/such"})
    e(["sh", "-c", "echo $HOME; pwd"], environment={"HOME": ""})
    e(["sh", "-c", "echo out; exec 1>&-; sleep 0.5; echo err >&2"])
    e(["sh", "-c", "exit 300"])
    e(["sh", "-c", "ulimit -c; umask; cat /proc/self/oom_score_adj; ls /proc/self/fd | wc -l"])
    e(["sh", "-c", "cat /proc/self/status | grep -E '^(Sig|Cap|Groups|Uid|Gid|NoNewPrivs)'"])
    t.POST(
        P,
        {"command": ["sh", "-c", "exit 3"], "wait-for-websocket": False, "record-output": True, "interactive": True},
        opmask=[("op/metadata/output", "keys")],
    )
    t.POST(P, {"command": ["sh", "-c", "cat; echo $?"], "record-output": True}, opmask=[("op/metadata/output", "keys")])
    t.POST(P, {"command": [], "wait-for-websocket": False})
    t.POST(P, {"wait-for-websocket": False})
    t.POST(P, {"command": None, "wait-for-websocket": False})
    t.POST(P, {"command": ["true"], "width": "80"})
    t.POST(P, {"command": ["true"], "environment": {"A": 1}})
    t.POST(P, {"command": ["id", "-u"], "user": 1000, "record-output": True}, opmask=[("op/metadata/output", "keys")])


@case("core")
def stopped(t):
    """A container that ends under its commands."""
    t.container("dt-1", start=True)
    r = t.POST(P, {"command": ["sleep", "60"], "wait-for-websocket": False}, wait=False)
    t.quiet("PUT", C + "/dt-1/state", {"action": "stop", "force": True, "timeout": 0})
    m = t.wait_op(r.opid or "/1.0/operations/none")
    t.record(
        "after the stop",
        {"status_code": m.get("status_code"), "return": (m.get("metadata") or {}).get("return")},
        m.get("err"),
    )
