"""Which library reads which format best: right values on small documents of known content, speed, size, citations.

    python benchmarks/readers.py tests/ingest/cases

A library that is not installed has no row. Each call runs in this process; a right value is one that
stands in the text as a person reads it (white space folded), a wrong one is one that a person does not see.
"""

from __future__ import annotations

import email
import email.policy
import importlib.metadata
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

FACTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "01-docx-table/tables.docx": (("Herons | | 7 | 7 | 7", "Plovers | 5 | | 5 | 15", "Inner value Tapir"), ()),
    "02-docx-tracked/tracked.docx": (("The notice period is seven weeks.", "keep one dachshund."), ("three",)),
    "03-docx-controls/controls.docx": (("Applicant: Maren Okafor, beekeeper.", "Requested amount: 15,300 euros"), ()),
    "05-docx-header-footer/header.docx": (("Contract no. HX-4471", "Valid until 31 March 2031"), ()),
    "06-docx-footnote-math-fields/footnotes.docx": (("Except Sark, where the ferry was cancelled.",), ()),
    "06-docx-footnote-math-fields/inline.docx": (("Okapi report from Antwerp of 4 June 2019", "E=mc2"), ()),
    "28-office-formats/macro.docm": (("The Puffin club meets on Tuesdays.",), ()),
    "28-office-formats/slides.pptx": (("The Kestrel launch is planned for 14 May at Baltimore.",), ()),
    "28-office-formats/tariffs.xlsx": (("Parcel price", "17.9"), ()),
    "28-office-formats/minutes.odt": (("elected Dana Petrov as treasurer.",), ()),
    "28-office-formats/sheet.ods": (("Ibis",), ()),
    "28-office-formats/novel.epub": (("Captain Lemur sailed from Tromso in 1887.",), ()),
    "25-eml/mail.eml": (("six weeks before the end of the year", "Wärmewerk", "Réunion"), ("uzrCykkCF",)),
    "25-eml/bike.eml": (("Königstraße repairs the brakes", "and needs three"), ("=C3",)),
    "25-eml/box.mbox": (("six weeks before the end of the year", "Wärmewerk"), ("uzrCykkCF",)),
    "25-eml/page.mhtml": (("The quarry in Ardèche yields limestone since 1904.",), ("=C3",)),
    "26-ipynb/study.ipynb": (("The wettest station was *Bergen* with 2,250 mm a year.",), ("ea1e7cEbhUjHcABhN",)),
    "27-rtf-vcf-tex-xml/letter.rtf": (
        ("The Müller lease ends on 30 September and", "900 €.", "Payment is due on the fifteenth"),
        ("Helvetica", "Riched20"),
    ),
    "27-rtf-vcf-tex-xml/person.vcf": (("Jürgen Voß", "+49 30 555 0199"), ("=C3",)),
    "27-rtf-vcf-tex-xml/paper.tex": (("The population of lemmings", "Göttingen", "40 %"), ("documentclass",)),
    "27-rtf-vcf-tex-xml/event.ics": (("new clinic at the harbour street",), ("BEGIN:",)),
    "27-rtf-vcf-tex-xml/pic.svg": (("Flow of the Elbe: 870 m3/s",), ("<svg",)),
    "07-pdf-form/form.pdf": (("Theodora Vance", "Latvia"), ()),
    "09-pdf-hyphen/hyphens.pdf": (("XR-200", "well-known", "between", "Prüfung"), ()),
}

Read = Callable[[Path], str]


def kreuzberg(path: Path) -> str:
    from kreuzberg import extract_file_sync

    return extract_file_sync(str(path)).content


def pandoc(path: Path) -> str:
    import pypandoc

    known = {".docm": "docx", ".tex": "latex", ".odt": "odt"}
    return pypandoc.convert_file(
        str(path), "plain", format=known.get(path.suffix), extra_args=["--wrap=none", "--track-changes=accept"]
    )


def markitdown(path: Path) -> str:
    from markitdown import MarkItDown

    return MarkItDown(enable_plugins=False).convert(str(path)).text_content


def docx2python(path: Path) -> str:
    from docx2python import docx2python as opened

    with opened(path) as document:
        return document.text


def mammoth(path: Path) -> str:
    import mammoth as library

    with path.open("rb") as file:
        return re.sub("<[^>]+>", " ", library.convert_to_html(file).value.replace("</td><td>", " | "))


def python_docx(path: Path) -> str:
    import docx

    document = docx.Document(str(path))
    return "\n".join(
        [p.text for p in document.paragraphs] + [" | ".join(c.text for c in r.cells) for t in document.tables for r in t.rows]
    )


def calamine(path: Path) -> str:
    import python_calamine

    book = python_calamine.CalamineWorkbook.from_path(path)
    return "\n".join(" | ".join(map(str, row)) for name in book.sheet_names for row in book.get_sheet_by_name(name).to_python())


def openpyxl(path: Path) -> str:
    import openpyxl as library

    book = library.load_workbook(path, read_only=True, data_only=True)
    return "\n".join(" | ".join("" if c is None else str(c) for c in row) for sheet in book for row in sheet.values)


def python_pptx(path: Path) -> str:
    import pptx

    return "\n".join(s.text_frame.text for slide in pptx.Presentation(str(path)).slides for s in slide.shapes if s.has_text_frame)


def odfdo(path: Path) -> str:
    from odfdo import Document

    return Document(path).get_formatted_text()


def stdlib_email(path: Path) -> str:
    def text(data: bytes) -> str:
        message = email.message_from_bytes(data, policy=email.policy.default)
        body = message.get_body(("plain", "html"))
        if body is None:
            body = next((p for p in message.walk() if p.get_content_maintype() == "text"), None)
        return f"{message['subject']}\n{body.get_content() if body else ''}"

    data = path.read_bytes()
    if path.suffix == ".mbox":
        return "\n".join(text(part) for part in re.split(rb"(?m)^From .*\n", data)[1:])
    return text(data)


def mail_parser(path: Path) -> str:
    import mailparser

    mail = mailparser.parse_from_file(str(path))
    return "\n".join([mail.subject or "", *mail.text_plain, *mail.text_html])


def nbformat(path: Path) -> str:
    import nbformat as library

    return "\n".join(cell.source for cell in library.read(path, as_version=4).cells)


def striprtf(path: Path) -> str:
    from striprtf.striprtf import rtf_to_text

    return rtf_to_text(path.read_text("latin-1"))


def pylatexenc(path: Path) -> str:
    from pylatexenc.latex2text import LatexNodes2Text

    return LatexNodes2Text().latex_to_text(path.read_text())


def vobject(path: Path) -> str:
    import vobject as library

    return "\n".join(
        str(part.value) for part in library.readOne(path.read_text()).getSortedChildren() if isinstance(part.value, str)
    )


def icalendar(path: Path) -> str:
    from icalendar import Calendar

    return "\n".join(f"{k}: {v}" for part in Calendar.from_ical(path.read_bytes()).walk() for k, v in part.items())


def pypdfium2(path: Path) -> str:
    import pypdfium2 as library

    return "\n".join(page.get_textpage().get_text_bounded() for page in library.PdfDocument(path))


def pdfplumber(path: Path) -> str:
    import pdfplumber as library

    with library.open(path) as document:
        return "\n".join(page.extract_text() for page in document.pages)


def pypdf(path: Path) -> str:
    from pypdf import PdfReader

    return "\n".join(page.extract_text() for page in PdfReader(path).pages)


def selfrag(path: Path) -> str:
    from selfrag import ingest

    document = ingest.read(path)
    return f"{document.title}\n{document.text}"


WORD, MAIL, PDF = (".docx", ".docm"), (".eml", ".mbox", ".mhtml"), (".pdf",)
EVERYTHING = tuple(sorted({Path(name).suffix for name in FACTS}))
LIBRARIES: dict[Read, tuple[str, tuple[str, ...], str]] = {
    kreuzberg: ("kreuzberg", EVERYTHING, "page; else none"),
    pandoc: (
        "pypandoc-binary",
        (*WORD, ".odt", ".epub", ".ipynb", ".rtf", ".tex", ".pptx", ".xlsx"),
        "none (an AST without positions)",
    ),
    markitdown: ("markitdown", EVERYTHING, "slide, sheet as headings"),
    docx2python: ("docx2python", WORD, "paragraph"),
    mammoth: ("mammoth", WORD, "none"),
    python_docx: ("python-docx", WORD, "paragraph"),
    calamine: ("python-calamine", (".xlsx", ".ods"), "sheet, cell"),
    openpyxl: ("openpyxl", (".xlsx",), "sheet, cell"),
    python_pptx: ("python-pptx", (".pptx",), "slide"),
    odfdo: ("odfdo", (".odt", ".ods"), "paragraph, sheet"),
    stdlib_email: ("(standard library)", MAIL, "message, part"),
    mail_parser: ("mail-parser", MAIL, "message"),
    nbformat: ("nbformat", (".ipynb",), "cell"),
    striprtf: ("striprtf", (".rtf",), "none"),
    pylatexenc: ("pylatexenc", (".tex",), "none (positions by node)"),
    vobject: ("vobject", (".vcf", ".ics"), "entry"),
    icalendar: ("icalendar", (".ics",), "entry"),
    pypdfium2: ("pypdfium2", PDF, "page, box"),
    pdfplumber: ("pdfplumber", PDF, "page, box"),
    pypdf: ("pypdf", PDF, "page"),
    selfrag: ("selfrag", EVERYTHING, "the natural place of each format"),
}


def tidy(text: str) -> str:
    return re.sub(r"[\s\u00a0]+", " ", text)


def main(folder: Path) -> None:
    print("| library | version | licence | MB installed | right | wrong values | ms a file | cites | missed |")
    print("|---|---|---|--:|--:|--:|--:|---|---|")
    for read, (package, kinds, cites) in LIBRARIES.items():
        right = total = wrong = 0
        missed: list[str] = []
        took: list[float] = []
        for name, (wanted, unwanted) in FACTS.items():
            path = folder / name
            if path.suffix not in kinds:
                continue
            total += len(wanted)
            try:
                read(path)  # imports
                began = time.perf_counter()
                text = tidy(read(path))
                took.append(time.perf_counter() - began)
            except ImportError:
                missed = ["not installed"]
                break
            except Exception as error:
                missed.append(f"{path.name} ({type(error).__name__})")
                continue
            good = [each for each in wanted if tidy(each) in text]
            right += len(good)
            wrong += sum(each in text for each in unwanted)
            missed += [f"{path.name}: {each}" for each in wanted if each not in good]
            missed += [f"{path.name}: shows {each}" for each in unwanted if each in text]
        if missed == ["not installed"]:
            continue
        print(row(package, right, total, wrong, took, cites, missed))


def row(package: str, right: int, total: int, wrong: int, took: list[float], cites: str, missed: list[str]) -> str:
    version = licence = size = ""
    if package not in ("(standard library)",):
        info = importlib.metadata.distribution(package)
        version = info.version
        classifiers = [c.split(" :: ")[-1] for c in info.metadata.get_all("Classifier") or () if c.startswith("License")]
        licence = info.metadata.get("License-Expression") or ", ".join(classifiers) or (info.metadata.get("License") or "")[:30]
        size = f"{sum(f.size or 0 for f in info.files or ()) / 1e6:.1f}"
    ms = f"{1000 * sum(took) / len(took):.1f}" if took else ""
    cells = (package, version, licence, size, f"{right}/{total}", wrong, ms, cites, "; ".join(missed))
    return f"| {' | '.join(map(str, cells))} |".replace("\n", " ")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
