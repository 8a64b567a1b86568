"""Known but unsupported formats: their names and what to do, instead of "binary, not text"."""

from __future__ import annotations

from pathlib import PurePath

_PDF = "save it as PDF"
_BY_NAME = {
    ".doc": "an old Word document; save it as .docx",
    ".dot": "an old Word template; save it as .docx",
    ".ppt": "an old PowerPoint presentation; save it as .pptx or PDF",
    ".pps": "an old PowerPoint presentation; save it as .pptx or PDF",
    ".pages": "an Apple Pages document; export it as .docx or PDF",
    ".numbers": "an Apple Numbers spreadsheet; export it as .xlsx",
    ".key": "an Apple Keynote presentation; export it as .pptx or PDF",
    ".wpd": "a WordPerfect document; save it as .docx",
    ".wps": "a Microsoft Works document; save it as .docx",
    ".hwp": "a Hangul document; save it as .docx or PDF",
    ".pub": f"a Publisher document; {_PDF}",
    ".vsd": f"a Visio drawing; {_PDF}",
    ".vsdx": f"a Visio drawing; {_PDF}",
    ".one": f"a OneNote section; {_PDF}",
    ".p7m": "an encrypted or signed message; save what your mail program shows",
    ".pst": "an Outlook mailbox; export its messages as .eml or .mbox",
    ".ost": "an Outlook mailbox; export its messages as .eml or .mbox",
    ".mobi": "a Kindle book; convert it to .epub",
    ".azw": "a Kindle book; convert it to .epub",
    ".azw3": "a Kindle book; convert it to .epub",
    ".djvu": f"a DjVu scan; {_PDF}",
    ".ps": f"PostScript; {_PDF}",
    ".eps": f"PostScript; {_PDF}",
    ".xps": f"an XPS document; {_PDF}",
    ".dvi": f"a DVI document; {_PDF}",
    ".chm": "compiled HTML help; unpack it to its HTML pages",
    ".mdb": "an Access database; export its tables as .csv",
    ".accdb": "an Access database; export its tables as .csv",
    ".sqlite": "an SQLite database; export its tables as .csv",
    ".db": "a database; export its tables as .csv",
    ".parquet": "a Parquet table; export it as .csv",
    ".indd": f"an InDesign document; {_PDF}",
    ".psd": f"a Photoshop picture; {_PDF}",
    ".dwg": f"a CAD drawing; {_PDF}",
}
_KINDS = {
    "a picture; save it as PDF with a text layer": ".png .jpg .jpeg .gif .bmp .tif .tiff .webp .heic .ico .avif",
    "a sound recording; write down what is said": ".mp3 .wav .ogg .flac .m4a .aac .opus .wma",
    "a film; its subtitles (.srt, .vtt) can be read": ".mp4 .mkv .mov .avi .webm .wmv .m4v .mpg",
    "an archive; unpack it": ".zip .gz .tgz .tar .bz2 .xz .7z .rar .zst .jar .whl .iso",
    "a program": ".exe .dll .so .dylib .o .a .class .pyc .wasm .bin",
    "a font": ".ttf .otf .woff .woff2",
}
_BY_NAME |= {suffix: reason for reason, suffixes in _KINDS.items() for suffix in suffixes.split()}
_BY_CONTENT = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old binary Office file; save it as .docx, .xlsx, .pptx or PDF"),
    (b"%PDF-", "a PDF by its content; name it .pdf"),
    (b"PK\x03\x04", "an archive, or a document without its ending; give it its ending, or unpack it"),
    (b"\x89PNG", _BY_NAME[".png"]),
    (b"\xff\xd8\xff", _BY_NAME[".jpg"]),
    (b"GIF8", _BY_NAME[".gif"]),
    (b"\x1f\x8b", _BY_NAME[".gz"]),
    (b"\x7fELF", _BY_NAME[".exe"]),
    (b"SQLite format 3\x00", _BY_NAME[".sqlite"]),
    (b"AT&TFORM", _BY_NAME[".djvu"]),
    (b"%!PS", _BY_NAME[".ps"]),
)


def what(path: PurePath, data: bytes) -> str | None:
    """The type of an unsupported file, and what to do; None if it may be text."""
    found = next((reason for mark, reason in _BY_CONTENT if data.startswith(mark)), None)
    reason = _BY_NAME.get(path.suffix.lower())
    if reason and (found or b"\x00" in data[:8192] or path.suffix.lower() in (".doc", ".ppt")):
        return f"not read: {reason}"
    return f"not read: {found}" if found else None
