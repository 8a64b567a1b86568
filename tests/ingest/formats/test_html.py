"""Pages as a browser shows them: tables, lists, what is struck through."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from selfrag import ingest

HEAD = "<tr><th rowspan=2>Plan</th><th colspan=2>Price</th></tr><tr><th>Month</th><th>Year</th></tr>"


@pytest.mark.parametrize(
    ("page", "lines"),
    [
        ("<table><tr><td>Plan<td><table><tr><td>Gold<td>9</table><tr><td>Term<td>1 y</table>",
         ["Plan", "Gold | 9", "Term | 1 y"]),
        ("<table><tr><th>Who</th><th>Where</th></tr><tr><td>Bob</td><td><ul><li>2 High St<li>York</ul></td></table>",
         ["Who | Where", "Bob | 2 High St; York"]),
        ("<table><tr><td>Ann</td><td><h2>Home</h2>1 Main St<br>Leeds</td></table>", ["Ann", "Home", "1 Main St", "Leeds"]),
        ("<table><thead><tr><th>A<th>B<tfoot><tr><td>Sum<td>3<tbody><tr><td>x<td>3</table>", ["A | B", "x | 3", "Sum | 3"]),
        ("<p>For <del>two</del><ins>three</ins> weeks, <s>50</s> 40.", ["For ~~two~~ three weeks, ~~50~~ 40."]),
        ("<ol type=a start=3><li>x<ol type=i><li>y</ol><li>z</ol><ol reversed><li>p<li>q</ol>",
         ["c. x", "i. y", "d. z", "2. p", "1. q"]),
        ("<p>1<sup>1</sup>&frasl;<sub>2</sub> cups, <sup>3</sup>/<sub>4</sub> spoon, 10<sup>6</sup>/5",
         ["1 1/2 cups, 3/4 spoon, 10^6/5"]),
        ("<input type=checkbox checked> Paid <input type=radio> Cash", ["☒ Paid ☐ Cash"]),
        ("<table><tr><td>Kind<td><select><option>A<option selected>B</select><tr><td>x<td>y</table>", ["Kind | B", "x | y"]),
        ('Area <script type="math/tex">\\pi r^2</script> <img alt="👍">', ["Area \\pi r^2 👍"]),
        ("<header>Open from 9 to 5, closed on Monday</header><p>Body<footer>Call 555-0100, a shop of Acme in York</footer>"
         "<aside>Read on</aside><footer>© 2020 by Acme, all rights are reserved</footer>",
         ["Open from 9 to 5, closed on Monday", "Body", "Call 555-0100, a shop of Acme in York"]),
        ("<table><tr><td>1.1.<td>Why?<tr><td>a<td>b<h2>x</h2></table>", ["1.1. Why?", "a | b", "x"]),
        ("<table><tr><th colspan=2>All fees<tr><th>Who<th>Fee<tr><td>Ann<td>4</table>", ["All fees |", "Who | Fee", "Ann | 4"]),
        ("<input type=checkbox><p>Body", ["Body"]),
        ("<div><button>Monthly</button><button>Yearly</button></div>", ["Monthly Yearly"]),
    ],
)  # fmt: skip
def test_what_is_seen(page: str, lines: list[str]) -> None:
    """Cells stay apart, lists keep their numbers, what is struck through its marks, forms what is chosen; a table's footer is its
    end, and a page's is read if it says more than whose it is."""
    assert [line for line in ingest.parse(PurePath("a.html"), page.encode()).text.split("\n") if line] == lines


@pytest.mark.parametrize(
    ("rows", "header"),
    [
        (HEAD + "<tr><td>Gold<td>9<td>90", "Plan | Price Month | Price Year"),
        ("<tr><td></td><th>A</th><th>B</th></tr><tr><th>x<td>1<td>2", "A | B"),
        ("<tr><th>Capital<td>Bern<tr><th>People<td>9 million", ""),
    ],
)
def test_headers_of_tables(rows: str, header: str) -> None:
    """A header of several rows names each column in full; rows that are headed themselves make none."""
    document = ingest.parse(PurePath("a.html"), f"<table>{rows}</table>".encode())
    assert max(document.spans, key=lambda span: span.end - span.start).header == header
