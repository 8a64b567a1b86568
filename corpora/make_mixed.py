"""Writes the PDF, the Word document and the HTML page of corpora/mixed from Wikipedia summaries (needs `fpdf2`).

    python corpora/make_mixed.py wikipedia_vital_10k.jsonl.gz

The argument is a file of summaries, one JSON object with title and text a line. The rest of the
folder is written by hand.
"""

from __future__ import annotations

import gzip
import html
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import docx
from fpdf import FPDF

FOLDER = Path(__file__).parent / "mixed"
NOTE = "Text from the English Wikipedia, by its contributors, licence CC BY-SA 4.0."
PLANETS = ("Solar System", "Mercury (planet)", "Venus", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune")
DRINKS = ("Coffee", "Tea", "Chocolate", "Beer", "Wine")
BRIDGES = ("Bridge", "Golden Gate Bridge", "Brooklyn Bridge", "Suspension bridge", "Aqueduct (water supply)")
LATIN = str.maketrans({"–": "-", "—": "-", "’": "'", "‘": "'", "“": '"', "”": '"', "−": "-", "\u00a0": " "})


def main(source: str) -> None:
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        texts = {row["title"]: row["text"] for row in map(json.loads, lines)}
    FOLDER.mkdir(exist_ok=True)
    write_pdf("The planets", {title: texts[title] for title in PLANETS if title in texts})
    write_docx("Drinks of the world", {title: texts[title] for title in DRINKS if title in texts})
    write_html("Bridges", {title: texts[title] for title in BRIDGES if title in texts})


def write_pdf(title: str, sections: dict[str, str]) -> None:
    pdf = FPDF()
    pdf.set_title(title)
    pdf.set_creation_date(datetime(2026, 1, 1, tzinfo=UTC))
    for name, text in sections.items():
        pdf.add_page()
        pdf.set_font("Times", "B", 18)
        pdf.multi_cell(0, 10, name.removesuffix(" (planet)"), new_x="LMARGIN", new_y="NEXT")
        pdf.set_font("Times", size=12)
        pdf.multi_cell(0, 6, text.translate(LATIN).encode("latin-1", "replace").decode("latin-1"), new_x="LMARGIN", new_y="NEXT")
        pdf.set_font("Times", "I", 9)
        pdf.multi_cell(0, 10, NOTE, new_x="LMARGIN", new_y="NEXT")
    pdf.output(str(FOLDER / "planets.pdf"))


def write_docx(title: str, sections: dict[str, str]) -> None:
    document = docx.Document()
    document.core_properties.title = title
    document.core_properties.author = "Wikipedia contributors"
    document.add_heading(title, 0)
    for name, text in sections.items():
        document.add_heading(name, 1)
        document.add_paragraph(text)
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "Drink", "Made from"
    for drink, made in (("Coffee", "roasted coffee beans"), ("Beer", "malted cereal grains"), ("Wine", "fermented grapes")):
        cells = table.add_row().cells
        cells[0].text, cells[1].text = drink, made
    document.add_paragraph(NOTE)
    document.save(str(FOLDER / "drinks.docx"))


def write_html(title: str, sections: dict[str, str]) -> None:
    body = "\n".join(f"<h2>{html.escape(name)}</h2>\n<p>{html.escape(text)}</p>" for name, text in sections.items())
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>body {{ max-width: 40em; margin: auto; }}</style>
</head>
<body>
<nav><a href="/">Home</a> <a href="/about">About</a></nav>
<main>
<h1>{title}</h1>
{body}
</main>
<footer>{NOTE}</footer>
</body>
</html>
"""
    (FOLDER / "bridges.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
