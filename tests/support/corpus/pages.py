"""HTML pages."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.corpus import Sample


def page(body: str, *, head: str = "<meta charset=utf-8>") -> Callable[[], bytes]:
    return f"<!doctype html><html><head>{head}</head><body>{body}</body></html>".encode


_NAVIGATION = """
<a class="skip-link" href="#main">Skip to content</a>
<nav><ul><li><a href="/">Home</a></li><li><a href="/shop">Shop of the week</a></li></ul></nav>
<div id="main-menu" class="menu"><a href="/a">Imprint and partners</a> <a href="/b">Careers</a></div>
<div role="navigation"><a href="/c">Sitemap of everything</a></div>
<main><h1>Opening hours</h1><p>The harbour office opens at nine.</p>
<h2>Winter</h2><p>In winter the office opens at eleven.</p></main>
<footer><p>Call 555-0134 for help.</p></footer>"""
_TABLE = """
<table><caption>Berths of the harbour</caption>
<thead><tr><th>Berth</th><th>Depth (m)</th><th>Fee</th></tr></thead>
<tbody><tr><td>North</td><td>4.5</td><td>35 euros</td></tr><tr><td>South</td><td></td><td>28 euros</td></tr></tbody></table>"""
_SPANS = """
<table><tr><th rowspan=2>Port</th><th colspan=2>Ships</th></tr><tr><th>2023</th><th>2024</th></tr>
<tr><td rowspan=2>Oslo</td><td>12</td><td>15</td></tr><tr><td>7</td><td>9</td></tr></table>"""
_REPORT = """
<table><tr><td></td><td></td><td colspan=5>Years ended March 31,</td></tr>
<tr><td>Fees:</td><td></td><td colspan=2>2021</td><td></td><td colspan=2>2020</td></tr>
<tr><td>Berths</td><td></td><td>$</td><td>312,639</td><td></td><td>$</td><td>298,100</td></tr>
<tr><td>Cranes</td><td></td><td></td><td>(14,200</td><td>)</td><td></td><td>9,750</td></tr></table>"""
_HIDDEN = """
<style>.ghost{display:none} #trap { visibility: hidden } p.seen{color:red}</style>
<p class=seen>The pump starts at five bar.</p><p hidden>hidden one</p><p style="display: none">hidden two</p>
<p class=ghost>hidden three</p><p id=trap>hidden four</p><div aria-hidden=true>hidden five</div>
<script>var hidden = "six"</script><template>hidden seven</template><!-- hidden eight -->
<p style="font-size:0px">hidden nine</p>"""
_LISTS = """
<ul><li>Ropes</li><li>Anchors<ol><li>Large one</li><li>Small one</li></ol></li></ul>
<dl><dt>Draught</dt><dd>Depth of the hull under water</dd></dl>
<pre>
tide   high  low
mon    06:10 12:20
</pre>"""
_LAYOUT = """
<table><tr><td><h1>Annual report</h1><p>The fleet has 14 ships.</p></td><td><p>Published in May.</p></td></tr></table>"""
_ENTITIES = "<p>Temperature &lt; 5&nbsp;&deg;C &amp; wind &gt; 6 Bft: no sail&shy;ing.</p>"


def _polish() -> bytes:
    return '<meta charset="windows-1250"><title>x</title><p>Siedem żółtych skrzyń</p>'.encode("cp1250")


def _cyrillic_without_charset() -> bytes:
    return "<html><body><p>Корабль уходит на рассвете. На палубе стоят семь жёлтых ящиков.</p></body></html>".encode(
        "cp1251"
    )


def _wrong_charset() -> bytes:
    return '<html><meta charset="iso-8859-1"><p>Größe: sieben gelbe Kisten für die Insel</p></html>'.encode()


SAMPLES = [
    Sample(
        "navigation.html",
        page(_NAVIGATION),
        ("The harbour office opens at nine.", "In winter the office opens at eleven.", "Call 555-0134"),
        ("Shop of the week", "Imprint", "Sitemap", "Skip to"),
        headings=("Opening hours", "Winter"),
    ),
    Sample(
        "table.html",
        page(_TABLE),
        ("Berths of the harbour", "Berth: North | Depth (m): 4.5 | Fee: 35 euros", "Berth: South | Fee: 28 euros"),
    ),
    Sample(
        "spans.html",
        page(_SPANS),
        ("Port: Oslo | Ships 2023: 12 | Ships 2024: 15", "Port: Oslo | Ships 2023: 7 | Ships 2024: 9"),
    ),
    Sample(
        "report.html",
        page(_REPORT),
        (
            "Fees: Berths | Years ended March 31, 2021: $ 312,639 | Years ended March 31, 2020: $ 298,100",
            "Fees: Cranes | Years ended March 31, 2021: (14,200) | Years ended March 31, 2020: 9,750",
        ),
    ),
    Sample(
        "cells that are spaced.html",
        page(
            "<table><tr><td colspan=2>Boat</td><td></td><td>Tons</td></tr><tr><td>Asa</td><td></td><td>$</td><td></td><td>35</td></tr>"
            "<tr><td>Ida</td><td></td><td></td><td></td><td>28</td></tr></table>"
        ),
        ("Boat: Asa | Tons: $ 35", "Boat: Ida | Tons: 28"),
    ),
    Sample("hidden.html", page(_HIDDEN), ("The pump starts at five bar.",), ("hidden", "display")),
    Sample(
        "lists.html",
        page(_LISTS),
        ("- Ropes", "- Anchors", "1. Large one", "2. Small one", "Draught: Depth of the hull", "mon 06:10 12:20"),
    ),
    Sample(
        "layout table.html",
        page(_LAYOUT),
        ("The fleet has 14 ships.", "Published in May."),
        headings=("Annual report",),
    ),
    Sample("entities.html", page(_ENTITIES), ("Temperature < 5 °C & wind > 6 Bft",), ("&", "nbsp")[1:]),
    Sample("cp1250.html", _polish, ("Siedem żółtych skrzyń",)),
    Sample("cp1251 without charset.html", _cyrillic_without_charset, ("семь жёлтых ящиков",)),
    Sample("wrong charset.html", _wrong_charset, ("Größe: sieben gelbe Kisten für die Insel",)),
    Sample("title.html", page("<p>Text.</p>", head="<meta charset=utf-8><title>Pump P-7</title>"), ("Pump P-7",)),
    Sample("nothing.html", page("<nav><a href=x>Home</a></nav>"), reason="empty"),
    Sample(
        "fragment.htm",
        lambda: b"<p>The pump starts at <b>five</b> bar.<p>It stops at nine.",
        ("The pump starts at five bar.",),
    ),
]
