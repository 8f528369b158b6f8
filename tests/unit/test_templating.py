"""The language of templates: what LXD 5.0.2 makes of the same texts (tests/compat/oracle), and what is refused."""

import pytest

from lxdnode.drivers.images.templating import TemplateError, render

VARIABLES = {
    "name": "c1",
    "map": {"a": "x", "copy": "of a dict", "zero": "0"},
    "list": ["one", "two"],
    "one": {"only": "it"},
    "twice": lambda text: text * 2,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ name }} {{ map.copy }} {{ map.missing }}{{ no.such.thing }}|", "c1 of a dict |"),
        ("{{ list.1 }} {{ list.7 }}|{{ twice('ab') }}", "two |abab"),
        ("line\n{% if true %}\ninside\n{% endif %}\nend\n", "line\n\ninside\n\nend\n"),
        ('{% if map.a == "x" && map.zero != "" || false %}yes{% endif %}{% if !map.none %}no{% endif %}', "yesno"),
        ('{% if map.a == "y" %}y{% elif map.zero %}zero{% else %}else{% endif %}', "zero"),
        ('{% if not map.none and "of" in map.copy %}{% if "a" in map %}in{% endif %}{% endif %}', "in"),
        (
            "{% for key, value in map %}{{ forloop.Counter }}{{ key }}={{ value }};{% endfor %}",
            "1a=x;2copy=of a dict;3zero=0;",
        ),
        ("{% for x in nothing %}{{ x }}{% empty %}none{% endfor %}", "none"),
        ("{% for x in list reversed %}{{ x }}{% if !forloop.Last %},{% endif %}{% endfor %}", "two,one"),
        ("{% for x in 'cab' sorted %}{{ x }}{% endfor %}", "abc"),
        ("{% set x = 'a' %}{% for y in list %}{% set x = 'b' %}{% endfor %}{{ x }}", "a"),
        (
            '{% with a="b" c=name %}{{ a }}{{ c }}{% endwith %}|{{ a }}|{% with "b" as a %}{{ a }}{% endwith %}',
            "bc1||b",
        ),
        ('{{ map.none|default:"d" }}|{{ ""|default:"d" }}|{{ name|default:"d" }}|{{ name | upper }}', "d|d|c1|C1"),
        (
            '{{ "a,b,c"|split:","|join:"-" }} {{ "a,b"|split:","|last }} {{ list|first }} {{ "a b"|cut:" " }}',
            "a-b-c b one ab",
        ),
        (
            '{{ "12"|add:"3" }} {{ 12|add:3 }} {{ "abcdef"|slice:"1:3" }} {{ "abcdef"|truncatechars:4 }}',
            "123 15 bc a...",
        ),
        (
            '{{ "<b>"|escape }} {{ "<b>" }} {{ "it\'s"|addslashes }} {{ "a b&c"|urlencode }}',
            "&lt;b&gt; <b> it\\'s a+b%26c",
        ),
        ('{{ 7|divisibleby:7 }} {{ ""|yesno:"ja,nein" }} {{ 1|pluralize }}{{ 2|pluralize }}', "True nein s"),
        (
            '{{ "7"|integer }} {{ "7.5"|float }} {{ 3.14159|floatformat:2 }} {{ 3|stringformat:"%03d" }}',
            "7 7.500000 3.14 003",
        ),
        (
            "{{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ 9 / 2 }} {{ -7 / 2 }} {{ 9 % 4 }} {{ 2 > 1 }} {{ 1.5 }}",
            "7 9 4 -3 1 True 1.500000",
        ),
        ("a{# a comment #}b{% comment %} {{ not.shown }} {% if %} {% endcomment %}c", "abc"),
        ("{% spaceless %} <a> <b></b> </a> {% endspaceless %}", "<a><b></b></a>"),
        ("{% filter upper|cut:'X' %}{{ map.a }}y{% endfilter %}{% firstof map.none name 'z' %}", "Yc1"),
        (
            "{% ifequal map.a 'x' %}equal{% else %}not{% endifequal %}{% ifnotequal map.a 'x' %}un{% endifnotequal %}",
            "equal",
        ),
        ("{% macro hi(who, how) %}hi {{ who }}{{ how }}{% endmacro %}{{ hi('you') }}", "hi you"),
        ("{% templatetag openblock %} {{ '}}' }} {% templatetag closevariable %}", "{% }} }}"),
        (
            "{% for x in map %}{% cycle 'odd' 'even' %}{% ifchanged %}{{ name }}{% endifchanged %}{% endfor %}",
            "oddc1evenodd",
        ),
        ("{% autoescape off %}<{% endautoescape %}", "<"),
    ],
)
def test_a_text_is_rendered_as_lxd_does(text: str, expected: str) -> None:
    assert render(text, VARIABLES) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ unclosed", "is not closed"),
        ("{% if true %}", "'endif' is missing"),
        ("{% for x in %}{% endfor %}", "a name is missing"),
        ("{% nosuch %}", "tag 'nosuch' is not known"),
        ("{{ name|nosuch }}", "filter 'nosuch' is not known"),
        ("{{ name name }}", "'name' is too much"),
        ("{{ name[0] }}", "is not understood"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ twice() }}", "wrong arguments"),
        *((f'{{% {tag} "/etc/passwd" %}}', f"tag '{tag}' is not allowed") for tag in ("include", "extends", "ssi")),
    ],
)
def test_what_is_wrong_is_refused(text: str, words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        render(text, VARIABLES)


@pytest.mark.parametrize(
    "text",
    [
        "{{ name.upper() }}",
        "{{ twice.__globals__() }}",
        "{{ 9**9**9 }}",
        "{% set n = 999999999 %}" + "{% set n = n * n %}" * 4,
        "{% set x = 'aa' %}" + "{% set x = x|add:x %}" * 40 + "{{ x }}",
        "{% set x = 'aa' %}" + "{% set x = x + x %}" * 40,
        "{{ 'x'|center:9999999999 }}",
        "{{ 1|stringformat:'%9999999999d' }}",
        "{{ 'ab'|center:99999|make_list|join:'wide and wider' }}",
        "{% for a in map %}" * 11 + "x" + "{% endfor %}" * 11,
        "{% for a in 'abcdefghij' %}" * 4 + "0123456789" * 20 + "{% endfor %}" * 4,
        "{% for a in '" + "x" * 90000 + "' %}{% if '" + "y" * 800000 + "'|upper == '' %}{% endif %}{% endfor %}",
        "{{ " + "'a'" * 40,  # Forms that match in more than one way take years to find that they do not.
        "{#" * 500000,
        '{{ "' * 250000,
    ],
)
def test_no_text_reaches_python_or_takes_more_than_its_share(text: str) -> None:
    with pytest.raises(TemplateError):
        render(text, VARIABLES)
    assert render("{{ '" + "<" * 500000 + "'|striptags|length }}", VARIABLES) == "500000"
    assert render("{{ map.__class__ }}{{ name.upper }}{{ list.append }}", VARIABLES) == ""
