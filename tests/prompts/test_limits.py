"""Templates that never end, or fill the memory: each is an error of ours that names the template and the limit, and soon."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmclf import Prompt
from llmclf.errors import PromptError
from llmclf.prompts import limits
from llmclf.prompts.shown_fields import bare_placeholders, placeholders

LABELS = ["positive", "negative"]
NS = "{% set ns = namespace(s='ab', a=[1], n=3) %}"
BIG = "'x' * 10**6"
TURNS = "{% for i in range(100) %}"

ENDLESS = {
    "nested loops": "{% for i in range(10**5) %}{% for j in range(10**5) %}{% endfor %}{% endfor %}",
    "loops that pass over all": "{% for i in range(10**5) %}{% for j in range(10**5) if j < 0 %}{% endfor %}{% endfor %}",
    "recursive loop": "{% for i in [1] recursive %}{% if loop.depth < 4 %}{{ loop(range(10**5)) }}{% endif %}{% endfor %}",
    "macro that calls itself twice": "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(50) }}",
    "call blocks": "{% macro m() %}{{ caller() }}{% endmacro %}{% for i in range(10**5) %}{% call m() %}"
    "{% for j in range(10**5) %}{% endfor %}{% endcall %}{% endfor %}",
    "lazy filters": "{% for i in range(10**5) %}{{ range(10**5) | map('abs') | sum }}{% endfor %}",
}
LARGE = {
    "range": "{% for i in range(10**9) %}{% endfor %}",
    "loop that writes": "{% for i in range(10**5) %}{% for j in range(10**5) %}"
    + "x" * 500
    + "{% endfor %}{% endfor %}",
    "text times number": "{{ 'a' * 10**9 }}",
    "number times text": "{{ 10**9 * 'a' }}",
    "list times number": "{{ ([1] * 10**9) | length }}",
    "power": "{{ 10 ** (10 ** 9) }}",
    "squares": NS + TURNS + "{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "doubled text": NS + TURNS + "{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "doubled by ~": NS + TURNS + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "doubled by a set block": NS + TURNS + "{% set x %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = x %}{% endfor %}",
    "lists in lists": NS + TURNS + "{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a }}",
    "tuples in tuples": NS + TURNS + "{% set ns.a = (ns.a, ns.a) %}{% endfor %}{{ ns.a }}",
    "dicts in dicts": NS + TURNS + "{% set ns.a = {'a': ns.a, 'b': ns.a} %}{% endfor %}",
    "dicts of a call": NS + TURNS + "{% set ns.a = dict(a=ns.a, b=ns.a) %}{% endfor %}",
    "lists of a filter": NS + TURNS + "{% set ns.a = [ns.a] | batch(3, ns.a) | list %}{% endfor %}",
    "slices that are kept": NS + "{% set big = 'x' * 9 * 10**6 %}" + TURNS + "{% set n = namespace(p=ns.a) %}"
    "{% set n.s = big[1:] %}{% set ns.a = n %}{% endfor %}",
    "filter center": "{{ 'a' | center(10**9) }}",
    "filter block": "{% filter center(10**9) %}x{% endfilter %}",
    "filter in map": "{{ ['a'] | map('center', 10**9) | list }}",
    "center": "{{ 'a'.center(10**9) }}",
    "ljust": "{{ 'a'.ljust(10**9) }}",
    "zfill": "{{ 'a'.zfill(10**9) }}",
    "bytes": "{{ 'a'.encode().rjust(10**9) | length }}",
    "to_bytes": "{{ (1).to_bytes(length=10**9, byteorder='big') | length }}",
    "expandtabs": "{{ '\\t'.expandtabs(tabsize=10**9) }}",
    "indent": "{{ 'a\nb' | indent(10**9) }}",
    "indent by a text": "{{ ('a\n' * 10**5) | indent(" + BIG + ") }}",
    "width": "{{ '%1000000000d' % 1 }}",
    "precision": "{{ '%.1000000000f' % 1 }}",
    "width of an argument": "{{ '%*d' % (10**9, 1) }}",
    "filter format": "{{ '%1000000000d' | format(1) }}",
    "filter format, many times": "{{ ('%(a)s' * 10**5) | format(a=" + BIG + ") }}",
    "format": "{{ '{:1000000000}'.format(1) }}",
    "format, width of an argument": "{{ '{:{}}'.format(1, 10**9) }}",
    "format, many times": "{{ ('{0}' * 10**5).format(" + BIG + ") }}",
    "format_map": "{{ '{a:1000000000}'.format_map({'a': 1}) }}",
    "format of HTML": "{{ ('{:1000000000}' | escape).format(1) }}",
    "replace": "{{ (" + BIG + ").replace('x', " + BIG + ") }}",
    "replace nothing": "{{ (" + BIG + ").replace('', " + BIG + ") }}",
    "filter replace": "{{ (" + BIG + ") | replace('x', " + BIG + ") }}",
    "join": "{{ (" + BIG + ").join('a' * 10**5) }}",
    "filter join": "{{ ('a' * 10**5) | join(" + BIG + ") }}",
    "join what is made meanwhile": "{{ ''.join(range(10**5) | map('string') | map('center', 99999)) }}",
    "list of what is made meanwhile": "{{ range(10**5) | map('string') | map('center', 99999) | list | length }}",
    "length of what is made meanwhile": "{% for i in range(10**5) | map('string') | map('center', 99999) %}"
    "{{ loop.length }}{% endfor %}",
    "translate": "{{ (" + BIG + ").translate({120: " + BIG + "}) }}",
    "batch": "{{ [1] | batch(10**9, 'x') | list | length }}",
    "slice": "{{ [1] | slice(10**9) | list | length }}",
    "round": "{{ 1.5 | round(10**9, 'ceil') }}",
    "tojson": "{{ [1] | tojson(10**9) }}",
    "wordwrap": "{{ (" + BIG + ") | wordwrap(1) }}",
    "striptags": "{{ ('<!-- -->' * 10**6) | striptags }}",
    "urlize": "{{ ('http://a.com ' * 10**5) | urlize(target=" + BIG + ") }}",
    "sum of lists": "{{ ([[1] * 5] * 10**4) | sum(start=[]) | length }}",
    "search from the end": "{{ (" + BIG + ").rfind('b' ~ 'x' * 10**5 * 5) }}",
    "slow codec": "{{ ('é' * 10**5).encode('punycode') | length }}",
}
NESTED = {
    "macro": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "block": "{% block a %}{{ self.a() }}{% endblock %}",
    "value": NS + "{% for i in range(10**4) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a }}",
    "brackets": "{{ " + "(" * 10**5 + "1" + ")" * 10**5 + " }}",
    "lists": "{{ " + "[" * 10**5 + "]" * 10**5 + " }}",
    "not": "{{ " + "not " * 5000 + "1 }}",
    "sum": "{{ " + "1+" * 5000 + "1 }}",
    "filters": "{{ text " + "| upper" * 5000 + " }}",
    "conditions": "{{ " + "1 if text else " * 3000 + "2 }}",
    "ifs": "{% if text %}" * 2000 + "{% endif %}" * 2000,
    "fors": "{% for i in text %}" * 30 + "{% endfor %}" * 30,
    "number": "{{ " + "9" * 10**5 + " }}",
    "lines": "{{ text }}" * 10**5,
    "operands": "{{ " + "text ~ " * 10**5 + "text }}",
    "open tags": "{%" * 10**5 * 4,
    "open string": "{{ '" + "\\" * 10**5 * 9,
    "long": "x" * (10**6 + 1),
}


def render(template: str, text: str = "A fine film.") -> str:
    return Prompt(template).renderer(LABELS).render({"text": text}).text


def refusal(template: str) -> str:
    with pytest.raises(PromptError) as caught:
        render(template + "{{ text }}")
    message = str(caught.value)
    assert message.startswith("the template ")
    assert len(message) < 3000  # a million characters are not quoted
    return message


@pytest.mark.parametrize("template", ENDLESS.values(), ids=ENDLESS)
def test_what_never_ends(template, monkeypatch):
    """The error says how many steps a row may take."""
    monkeypatch.setattr(limits, "MOST_STEPS", 20_000)
    assert "it takes more than 20,000 steps (turns of loops, calls, filters) for a row" in refusal(template)


@pytest.mark.parametrize("template", ENDLESS.values(), ids=ENDLESS)
def test_what_takes_too_long(template, monkeypatch):
    """The clock counts as well, that of this thread's own work: the steps of another template may be slow ones."""
    monkeypatch.setattr(limits, "MOST_SECONDS", 0.05)
    began = time.thread_time()
    assert "it takes more than 0.05 s for a row" in refusal(template)
    assert time.thread_time() - began < 1


@pytest.mark.parametrize("template", LARGE.values(), ids=LARGE)
def test_what_is_too_large(template):
    """It is refused before it is made: the process never grows by more than some values of the largest size."""
    tracemalloc.start()
    try:
        message = refusal(template)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 400e6
    assert any(
        part in message
        for part in (
            "more than",
            "Range too big",
            "takes at most",
            "adds numbers alone",
            "encode knows",
            "there is not enough",
        )
    ), message


@pytest.mark.parametrize("template", NESTED.values(), ids=NESTED)
def test_what_is_nested_or_long(template):
    """Python's own limits on depth never show as its own errors, whether they are met while compiling or while rendering."""
    refusal(template)


def test_in_threads(monkeypatch):
    """Limits are those of one rendering: others at the same time neither share nor reset them."""
    monkeypatch.setattr(limits, "MOST_STEPS", 300_000)
    outcomes: list[str] = []

    def work(template: str) -> None:
        try:
            outcomes.append(str(len(render(template))))
        except PromptError:
            outcomes.append("refused")

    long = "{% for i in range(10**5) %}x{% endfor %}{{ text }}"
    templates = [long, ENDLESS["nested loops"] + "{{ text }}"] * 3
    threads = [threading.Thread(target=work, args=(template,)) for template in templates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [str(10**5 + 12)] * 3 + ["refused"] * 3


@pytest.mark.parametrize(
    ("template", "text", "expected"),
    [
        ("{{ text | trim }}", " " + "é" * 12_000_000, "é" * 12_000_000),
        ("{% for word in text.split() %}{{ word }} {% endfor %}", "ab " * 50_000, "ab " * 50_000),
        ("{{ text | replace('\n', ' ') | truncate(10, true, '...', 0) }}", "a\nb\nc\nd\ne\nf\ng\nh", "a b c d..."),
        ("{{ '%-8s|%5.2f' % (text, 3.14159) }}", "ab", "ab      | 3.14"),
        ("{{ '{:>6}|{!r}'.format(text, 1) }}", "ab", "    ab|1"),
        ("{{ ('<b>{}</b>' | safe).format(text) }}", "<", "<b>&lt;</b>"),
        ("{{ text ~ 1 ~ none }}", "a", "a1None"),
        ("{{ (text.split('|') | map('upper') | list)[1:] | join('+') }}", "a|b|c", "B+C"),
        (
            "{% for a, b in [(1, 2), (3, 4)] if a > 1 %}{{ loop.length }}{{ a + b }}{{ text }}{% else %}-{% endfor %}",
            "x",
            "17x",
        ),
        ("{% for i in [] %}{% else %}{{ text }}{% endfor %}", "x", "x"),
        (
            "{% for i in [1, [2, [3]]] recursive %}{{ loop(i) if i is iterable else i }}{% endfor %}{{ text }}",
            "x",
            "123x",
        ),
        (
            "{% set ns = namespace(n=0) %}{% for c in text %}{% set ns.n = ns.n + 2 ** 3 %}{% endfor %}{{ ns.n }}",
            "abc",
            "24",
        ),
        (
            "{% macro m(a, b=2) %}{{ a }}{{ b }}{{ varargs | length }}{% endmacro %}{{ m(text) }}{{ m(1, 2, 3) }}",
            "x",
            "x20121",
        ),
        ("{{ {'a': text}['a'] }}{{ [text, 2] | tojson(indent=0) }}", "x", 'x[\n"x",\n2\n]'),
        ("{{ text.encode() | length }}{{ text.expandtabs(4) }}{{ text.rjust(3, '.') }}", "é", "2é..é"),
    ],
)
def test_ordinary_templates_mean_what_they_meant(template, text, expected):
    """What is counted and measured on the way changes no result; a long row may be as long as it is."""
    assert render(template, text) == expected


@given(st.lists(st.one_of(st.text(max_size=3), st.integers(0, 9)), max_size=5))
def test_size_counts_what_a_value_shows(values):
    """A value is never taken for smaller than its text is, but for its quotes."""
    nested = [values, {"a": tuple(values)}]
    assert limits.Work().size(nested) >= sum(len(str(value)) for value in values) * 2 - 5 * len(values)


@pytest.mark.parametrize(
    "unit", ["{text:", "{", "{{", "{ ", "$", "%(", "<", "<<", "[", "{a", " ", "{1", "{{ a ", "{x[", "{x:y"]
)
@pytest.mark.parametrize("run", [" ", "a", "{", "1", "(", ":"])
def test_hints_about_other_languages_are_found_in_linear_time(unit, run):
    """No text makes the search for ``{text}``, ``$text`` and the like slow: twice as much takes about twice the time."""
    source = "{% raw %}" + unit + run * 100_000 + unit * 10_000 + "{% endraw %}"
    began = time.thread_time()
    placeholders(source, ["text", "a"])
    bare_placeholders(source)
    assert time.thread_time() - began < 2


def steps(work, number):
    for _ in range(number):
        work.step()


def test_the_time_in_which_python_collects_garbage_is_not_the_templates(monkeypatch):
    """In a process with millions of objects that takes seconds, and may happen in any rendering."""
    seconds = iter([0.0, 3.0, 3.0, 6.0])
    monkeypatch.setattr(limits.time, "thread_time", lambda: next(seconds))
    work = limits.Work()
    gc.collect()
    steps(work, 10)
    with pytest.raises(limits.LimitError, match="more than 2 s"):
        steps(work, 100)
