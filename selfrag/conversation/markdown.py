"""A conversation as a Markdown file: questions, answers with their citations and critique, sources."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Json = Mapping[str, Any]

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def to_markdown(documents: Sequence[Json]) -> str:
    """The answers, given as their JSON documents, in order."""
    return "\n".join(line for document in documents for line in _answer(document))


def _answer(document: Json) -> Iterator[str]:
    yield f"## {_plain(document['question'])}\n"
    if document["status"] == "answered":
        for segment in document["segments"]:
            mark = f" \\[{segment['citation']}\\]" if segment["citation"] else ""
            judged = [
                f"{key.upper()} {segment['critique'][key]:.2f}"
                for key in ("isrel", "issup", "isuse")
                if key.upper() in segment["distributions"]
            ]
            critique = f"  \n*{', '.join(judged)}*" if judged else ""
            yield f"{_plain(segment['text'])}{mark}{critique}\n"
    else:
        yield "*No answer: the documents do not answer it well enough.*\n"
    for citation in document["citations"]:
        yield f"{citation['n']}. {_place(citation)}{_title(citation)}"
    if document["citations"]:
        yield ""
    yield f"<sub>{_plain(document['model'])}, collection {_plain(document['collection']) or 'none'}</sub>\n"


def _place(citation: Json) -> str:
    if citation["page"]:
        return f"`{_code(citation['source'])}` p. {citation['page']}"
    return f"`{_code(citation['source'])}{':' + str(citation['lines'][0]) if citation['lines'] else ''}`"


def _title(citation: Json) -> str:
    title = _plain(citation["title"])
    return f" {title}" if title and title != _plain(Path(citation["source"]).stem) else ""


def _plain(text: str) -> str:
    """``text`` on one line, with nothing in it that Markdown takes for markup."""
    return _SPECIAL.sub(r"\\\1", " ".join("".join(c for c in text if c.isprintable() or c.isspace()).split()))


def _code(text: str) -> str:
    return "".join(c for c in text if c.isprintable()).replace("`", "'")
