"""metadata.yaml and templates of containers, in the form of the oracle's cases: see README.md here."""

from dtlib import case

C = "/1.0/containers"
M = C + "/dt-1/metadata"
T = M + "/templates"


@case("container_edit_metadata")
def metadata(t):
    t.container("dt-1")
    t.GET(M, mask=[("metadata/creation_date", "type")])
    t.PUT(M, {"architecture": "x86_64", "creation_date": 1, "properties": {"os": "changed"}})
    t.GET(M)
    t.PUT(M, {"properties": {"os": "less"}})
    t.GET(M)
    t.PUT(M, raw=b"{", headers={"Content-Type": "application/json"})
    t.GET(C + "/nosuch/metadata")
    t.PUT(C + "/nosuch/metadata", {})


@case("container_edit_metadata")
def templates(t):
    t.container("dt-1")
    t.GET(T)
    octets = {"Content-Type": "application/octet-stream"}
    t.POST(T + "?path=made.tpl", raw=b"hello {{ container.name }}", headers=octets)
    t.GET(T)
    t.GET(T + "?path=made.tpl", as_="text")
    t.POST(T + "?path=made.tpl", raw=b"again", headers=octets)
    t.PUT(T + "?path=made.tpl", raw=b"changed", headers=octets)
    t.GET(T + "?path=made.tpl", as_="text")
    t.PUT(T + "?path=nosuch.tpl", raw=b"x", headers=octets)
    t.DELETE(T + "?path=made.tpl")
    t.DELETE(T + "?path=made.tpl")
    t.GET(T + "?path=made.tpl")


@case("container_edit_metadata")
def errors(t):
    t.container("dt-1")
    t.POST(T, raw=b"x")
    t.PUT(T, raw=b"x")
    t.DELETE(T)
    t.GET(T + "?path=../metadata.yaml")
    t.POST(T + "?path=../out.tpl", raw=b"x")
    t.GET(C + "/nosuch/metadata/templates")
    t.POST(C + "/nosuch/metadata/templates?path=x.tpl", raw=b"x")
