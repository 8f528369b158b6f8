"""Templates of containers as they are rendered, in the form of the oracle's cases: see README.md here."""

from dtlib import case

C = "/1.0/containers"
M = C + "/dt-1/metadata"
CONFIG = {
    "user.words": "<a & b>",
    "user.lines": "one\ntwo\n\n",
    "user.empty": "",
    "user.number": "7",
    "user.CASE": "MiXed",
}
PROPERTIES = {"default": "the default", "other": "x", "copy": "of a dict", "zero": "0"}
TEXTS = [
    "{{ container.name }} {{ container.architecture }} {{ container.privileged }} {{ container.ephemeral }}",
    "{{ trigger }} {{ path }} {{ properties.default }} {{ properties.copy }} {{ devices.root.type }}",
    '{{ config_get("user.words", "") }}|{{ config_get("user.lines", "") }}|',
    '{{ config_get("user.none", properties.default) }}|{{ config_get("user.none", properties.missing) }}|',
    "{{ no.such.thing }}|{{ nothing }}|",
    '{% if config_get("user.number", "") == "7" %}seven{% else %}other{% endif %}',
    '{% if properties.other == "x" and not properties.missing %}yes{% elif properties.zero %}zero{% endif %}',
    '{% if properties.other == "x" && properties.default != "" || false %}yes{% endif %}',
    "{% if !properties.missing %}no{% endif %}",
    '{% if "a" in properties.default %}in{% endif %}{% if properties.zero %}truth{% endif %}',
    "{% for name in devices %}[{{ name }}]{% endfor %}",
    "{% for key, value in devices %}{{ key }}={{ value.type }};{% endfor %}",
    "{% for key, value in devices %}{{ forloop.Counter }}{% if forloop.Last %}.{% endif %}{% empty %}none{% endfor %}",
    "{% for key in 'cab' reversed %}{{ key }};{% endfor %}{% for key in properties sorted %}{{ key }};{% endfor %}",
    "{% for x in nothing %}{{ x }}{% empty %}none{% endfor %}",
    '{% set greeting = "hello" %}{{ greeting }} {{ greeting|upper }} {{ greeting|capfirst }} {{ greeting|length }}',
    '{% with a="b" %}{{ a }}{% endwith %}|{{ a }}|{% with "b" as a %}{{ a }}{% endwith %}',
    '{{ properties.missing|default:"d" }}|{{ config_get("user.empty", "")|default:"d" }}',
    '{{ properties.other|default:"d" }}',
    '{{ config_get("user.CASE", "")|lower }} {{ config_get("user.CASE", "")|upper }} {{ "some words here"|title }}',
    '{{ "a,b,c"|split:","|join:"-" }} {{ "a,b,c"|split:","|first }} {{ "a,b,c"|split:","|last }} {{ "a b"|cut:" " }}',
    '{{ "12"|add:"3" }} {{ 12|add:3 }} {{ "x"|add:"y" }} {{ "abcdef"|slice:"1:3" }} {{ "abcdef"|truncatechars:4 }}',
    '{{ "<b>"|escape }} {{ "<b>" }} {{ "<b>"|safe }} {{ "it\'s"|addslashes }} {{ "a b&c"|urlencode }}',
    '{{ 7|divisibleby:7 }} {{ "yes"|yesno:"ja,nein" }} {{ ""|yesno:"ja,nein" }} {{ 1|pluralize }} {{ 2|pluralize }}',
    '{{ "one two"|wordcount }} {{ "7"|integer }} {{ "7.5"|float }}',
    '{{ 3.14159|floatformat:2 }} {{ 3|stringformat:"%03d" }}',
    '{{ "ab"|center:6 }}|{{ "ab"|ljust:6 }}|{{ "ab"|rjust:6 }}',
    "{{ 1 + 2 }} {{ 7 - 2 }} {{ 3 * 4 }} {{ 9 / 2 }} {{ 9 % 4 }} {{ 2 > 1 }} {{ 2 <= 1 }} {{ true }} {{ 1.5 }}",
    "a{# a comment #}b{% comment %} {{ not.shown }} {% endcomment %}c",
    "{% autoescape off %}{{ properties.default }}{% endautoescape %}{% spaceless %}<a> <b></b> </a>{% endspaceless %}",
    '{% filter upper %}{{ properties.other }}y{% endfilter %}{% firstof properties.missing properties.other "z" %}',
    '{% ifequal properties.other "x" %}equal{% else %}not{% endifequal %}',
    '{% ifnotequal properties.other "x" %}un{% endifnotequal %}',
    '{% macro hi(name) %}hi {{ name }}{% endmacro %}{{ hi("you") }}',
    "{% templatetag openblock %} {% templatetag closevariable %}",
    "line\n{% if true %}\ninside\n{% endif %}\nend\n",
    "no newline at the end",
    "{% for a in properties %}{% cycle 'odd' 'even' %};{% endfor %}",
    "{% for a in properties %}{% ifchanged %}{{ container.name }}{% endifchanged %}{% endfor %}",
]


@case("container_edit_metadata")
def language(t):
    t.container("dt-1", config=CONFIG)
    entries = {}
    for number, text in enumerate(TEXTS):
        name = f"t{number}.tpl"
        octets = {"Content-Type": "application/octet-stream"}
        t.quiet("POST", f"{M}/templates?path={name}", raw=text.encode(), headers=octets)
        entry = {"when": ["start"], "template": name, "properties": PROPERTIES, "create_only": False}
        entries[f"/tmp/rendered{number}"] = entry
    t.quiet("PUT", M, {"architecture": "x86_64", "creation_date": 1, "templates": entries})
    t.PUT(C + "/dt-1/state", {"action": "start", "timeout": 30})
    for number, text in enumerate(TEXTS):
        t.record(repr(text)[:60], {"text": t.quiet("GET", f"{C}/dt-1/files?path=/tmp/rendered{number}").body.decode()})


@case("container_edit_metadata")
def triggers(t):
    """Which templates which event renders, and what becomes of files that exist."""
    t.container("dt-1", config=CONFIG)
    whens = {
        "create": ["create"],
        "copy": ["copy"],
        "start": ["start"],
        "rename": ["rename"],
        "both": ["create", "start"],
        "all": ["create", "copy", "start", "rename"],
        "none": [],
    }
    entries = {}
    octets = {"Content-Type": "application/octet-stream"}
    t.quiet(
        "POST", f"{M}/templates?path=which.tpl", raw=b"{{ trigger }} {{ path }} {{ container.name }}\n", headers=octets
    )
    for name, when in whens.items():
        for only in (False, True):
            entries[f"/tmp/{name}-{only}"] = {
                "when": when,
                "template": "which.tpl",
                "properties": {},
                "create_only": only,
            }
    entries["/made/on/the/way"] = {"when": ["start"], "template": "which.tpl", "properties": {}, "create_only": False}
    t.quiet("PUT", M, {"architecture": "x86_64", "creation_date": 1, "templates": entries})

    def look(c, moment):
        seen = {}
        for name in whens:
            for only in (False, True):
                r = t.quiet("GET", f"{C}/{c}/files?path=/tmp/{name}-{only}")
                seen[f"{name}-{only}"] = r.body.decode() if r.status == 200 else r.status
        for path in ("/made", "/made/on", "/made/on/the/way"):
            r = t.quiet("GET", f"{C}/{c}/files?path={path}")
            seen[path] = [r.status, r.headers.get("x-lxd-mode"), r.headers.get("x-lxd-uid"), r.headers.get("x-lxd-gid")]
        seen["pending"] = (t.quiet("GET", f"{C}/{c}").meta or {}).get("config", {}).get("volatile.apply_template")
        t.record(moment, seen)

    def restart(c):
        t.quiet("PUT", f"{C}/{c}/state", {"action": "start", "timeout": 30})
        t.quiet("PUT", f"{C}/{c}/state", {"action": "stop", "force": True, "timeout": 0})

    look("dt-1", "before")
    restart("dt-1")
    look("dt-1", "after the first start")
    for name in ("start-True", "start-False", "create-False"):
        t.quiet(
            "POST", f"{C}/dt-1/files?path=/tmp/{name}", raw=b"mine\n", headers={"X-LXD-mode": "0600", "X-LXD-uid": "5"}
        )
    restart("dt-1")
    look("dt-1", "after the second start")
    t.quiet("POST", C + "/dt-1", {"name": "dt-2"})
    restart("dt-2")
    look("dt-2", "after a rename")
    t.quiet("POST", C, {"name": "dt-3", "profiles": ["default"], "source": {"type": "copy", "source": "dt-2"}})
    look("dt-3", "after a copy")
    restart("dt-3")
    look("dt-3", "after its first start")
    t.quiet("POST", f"{C}/dt-2/snapshots", {"name": "s"})
    t.quiet("PUT", f"{C}/dt-2", {"restore": "s"})
    restart("dt-2")
    look("dt-2", "after a restore")
