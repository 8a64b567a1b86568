from __future__ import annotations

import os
from pathlib import Path

import pytest

from selfrag import ingest
from selfrag.errors import InputError
from selfrag.ingest import decode


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


MARKDOWN = """---
title: The house
tags: [a, b]
date: 2024-01-01
draft: true
deep: {x: {y: 1}}
---
# The house

It stands.

## Rooms

Two rooms.

```sh
# no heading
```

Garden
------

### Shed

Tools.
"""


def test_markdown_has_front_matter_and_headings(tmp_path: Path) -> None:
    """Front matter becomes metadata as it is written; # and underlined headings count, those in code blocks do not."""
    document = ingest.read(written(tmp_path, "a.md", MARKDOWN))
    assert document.metadata == {
        "title": ("The house",),
        "tags": ("a", "b"),
        "date": ("2024-01-01",),
        "draft": ("true",),
        "deep.x.y": ("1",),
    }
    assert [(each.level, each.title) for each in document.headings] == [
        (1, "The house"),
        (2, "Rooms"),
        (2, "Garden"),
        (3, "Shed"),
    ]
    assert document.title == "The house"


def test_chunks_lead_back_to_the_source(tmp_path: Path) -> None:
    """A chunk's offsets and lines point at exactly its text in the file."""
    path = written(tmp_path, "a.md", MARKDOWN)
    document = ingest.read(path)
    source = path.read_text()
    chunks = ingest.split(document, capacity=30)
    assert len(chunks) > 3
    for chunk in chunks:
        assert source[chunk.start : chunk.end] == chunk.text
        assert source.split("\n")[chunk.lines[0] - 1].startswith(chunk.text.split("\n")[0])
        assert source.split("\n")[chunk.lines[1] - 1].endswith(chunk.text.split("\n")[-1])
    assert chunks[-1].text == "Tools."
    assert chunks[-1].headings == ("Garden", "Shed")
    assert chunks[0].text.startswith("title: The house")


def test_windows_newlines_count_as_one(tmp_path: Path) -> None:
    """Lines are the same whether they end in CR LF, CR or LF."""
    texts = [f"first{newline}{newline}second{newline}third" for newline in ("\n", "\r\n", "\r")]
    lines = [ingest.split(ingest.read(written(tmp_path, "a.txt", text)))[0] for text in texts]
    assert {(chunk.text, chunk.lines) for chunk in lines} == {("first\n\nsecond\nthird", (1, 4))}


def test_a_heading_without_text_is_kept() -> None:
    """A document that is only headings still has something to find."""
    document = ingest.parse(Path("a.md"), b"# Alone\n\n## Below\n")
    assert "Alone" in "".join(chunk.text for chunk in ingest.split(document))


def test_rst_titles(tmp_path: Path) -> None:
    """Adornments give levels in the order in which they appear, over and under."""
    text = "=====\nTitle\n=====\n\nText\n\nPart\n----\n\nbody\n\nDeeper\n~~~~~~\n\nend\n\nOther\n-----\n\nlast\n"
    document = ingest.read(written(tmp_path, "a.rst", text))
    assert [(each.level, each.title) for each in document.headings] == [(1, "Title"), (2, "Part"), (3, "Deeper"), (2, "Other")]
    assert document.title == "Title"
    assert ingest.split(document, capacity=12)[-1].headings == ("Other",)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8-sig", "Grüße aus Köln"),
        ("utf-16", "Grüße aus Köln"),
        ("utf-32", "Grüße aus Köln"),
        ("cp949", "한글은 조선의 네 번째 임금인 세종이 만들고 반포한 글자이다. 처음 이름은 훈민정음이었다. " * 3),
        ("latin-1", "Les élèves français étaient à l'école, où ils préparaient un goûter très apprécié. " * 3),
        ("shift_jis", "日本語の文章はひらがなとカタカナと漢字で書かれています。これは試験のための文章です。" * 3),
    ],
)
def test_encodings(tmp_path: Path, encoding: str, text: str) -> None:
    """Text in other encodings than UTF-8 is read as what it says."""
    assert ingest.read(written(tmp_path, "a.txt", text.encode(encoding))).text == text


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "The plot has 100 m² of land."),
        ("cp1252", "Cells: 10³ per mL, 5 µm each"),
        ("cp1252", "Company® and Brand™, §5, £40"),
        ("cp1252", "naïve, £40"),
        ("cp1252", "Hélène"),
        ("iso8859_15", "Un bœuf à 40 €, l'été"),
        ("cp1250", "Jiří"),
        ("cp1253", "Αθήνα"),
    ],
)
def test_a_word_or_two_in_an_old_encoding(encoding: str, text: str) -> None:
    """Signs and single words are read as the likeliest Western encoding has them, unless they are no words in it."""
    assert decode.decode(text.encode(encoding)) == text


@pytest.mark.parametrize(
    ("label", "encoding", "text"),
    [
        ("iso-8859-1", "iso8859_2", "Umowa została zawarta w Łodzi. Okres: trzy miesiące, źródło."),
        ("windows-1251", "koi8_u", "Договор аренды заключён в Москве на три месяца."),
        ("iso-8859-1", "cp1252", "“Größe™” 5 m²"),
        ("utf-7", "utf-7", "Café 40 £"),
    ],
)
def test_labels_of_encodings(label: str, encoding: str, text: str) -> None:
    """A label that makes no words of a text does not count, and one that does is kept."""
    assert decode.declared(text.encode(encoding), label).text == text


def test_lines_in_an_old_encoding_with_returns_in_them() -> None:
    """Each line that is not UTF-8 stays one, whatever returns it holds."""
    assert decode.decode("Größe ñ é\n".encode() + b"caf\xe9 \r na\xefve\n") == "Größe ñ é\ncafé \n naïve\n"


def test_a_stray_byte_does_not_change_the_encoding() -> None:
    """UTF-8 with one broken byte stays UTF-8, the byte becomes U+FFFD."""
    data = ("Ärger " * 300).encode() + b"\xff" + " Öl".encode()
    text = ingest.parse(Path("a.txt"), data).text
    assert text.startswith("Ärger")
    assert text.endswith("\ufffd Öl")


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", b"", "empty"),
        ("a.txt", b"  \n\n ", "empty"),
        ("a.txt", b"\x00\x01\x02\x03" * 100, "binary"),
        ("a.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "a picture"),
        ("a.md", b"---\n---\n", "no text"),
        ("a.txt", b"\xff\xfe\x00\xd8", "not valid utf-16"),
        ("a.json", b"[" * 200_000, "nested too deeply"),
        ("a.jsonl", b'{"a": 1\n{"a": \n', "line 1"),
    ],
)
def test_reasons(name: str, data: bytes, reason: str) -> None:
    """What cannot be read is refused with a reason that a person understands."""
    with pytest.raises(InputError, match=reason):
        ingest.parse(Path(name), data)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    """A file of 200 MB is refused for its size, which is told, without being read to its end."""
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.truncate(200 * 2**20)
    with pytest.raises(InputError, match="too large: 200 MiB, the limit is 64 MiB"):
        ingest.read(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """Folders, named pipes and missing files are refused at once."""
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "missing", "."):
        with pytest.raises(InputError):
            ingest.read(tmp_path / name)
        assert not ingest.supported(tmp_path / name)


def test_supported_by_name_or_by_look(tmp_path: Path) -> None:
    """Known extensions are taken, other files if they look like text."""
    assert ingest.supported(written(tmp_path, "a.pdf", b""))
    assert ingest.supported(written(tmp_path, "Makefile", "all:\n\techo\n"))
    assert ingest.supported(written(tmp_path, "x.unknown", "words"))
    assert not ingest.supported(written(tmp_path, "b.png", b"\x89PNG\r\n\x1a\n\x00\x00"))


def test_front_matter_cannot_explode() -> None:
    """Aliases that multiply (the billion laughs) and broken YAML cost nothing and hide no text."""
    bomb = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefghijk", "bcdefghijkl", strict=False))
    document = ingest.parse(Path("a.md"), f"---\n{bomb}---\ntext\n".encode())
    assert document.metadata == {"a": ("x", "x")}
    assert ingest.parse(Path("a.md"), b"---\n: [\n---\ntext\n").metadata == {}


@pytest.mark.parametrize(
    "text", ["[" * 50_000, "*" * 50_000, "> " * 20_000, "`" * 50_000, "a" * 400_000, "<" * 50_000, "# \n" * 20_000]
)
def test_pathological_markdown_is_split_in_time(text: str) -> None:
    """Repetitions that make parsers slow are read all the same."""
    assert ingest.split(ingest.parse(Path("a.md"), text.encode() + b" end"))


def test_korean_chunks_are_shorter() -> None:
    """A chunk of Korean holds about as much as an English one, so it has fewer characters."""
    korean = "한글은 소리마디마다 자음과 모음을 네모나게 모아 쓴다. " * 100
    english = "The quick brown fox jumps over the lazy dog again. " * 100
    sizes = [
        max(len(chunk.text) for chunk in ingest.split(ingest.parse(Path("a.txt"), text.encode()))) for text in (korean, english)
    ]
    assert 350 < sizes[0] < 600
    assert 800 < sizes[1] <= ingest.CAPACITY


def test_lone_surrogates_and_nulls_can_be_stored() -> None:
    """Whatever a file says, its text can be written as UTF-8 and has no NUL in it."""
    document = ingest.parse(Path("a.json"), b'{"a": "x\\ud800y", "b": "n\\u0000l"}')
    document.text.encode("utf-8")
    assert "\x00" not in document.text
