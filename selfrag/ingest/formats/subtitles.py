"""Subtitles (.srt, .vtt): the spoken text with its times. Runs in the worker process."""

from __future__ import annotations

import html
import re
from pathlib import PurePath

from selfrag.ingest.clean import readable
from selfrag.ingest.decode import decode
from selfrag.ingest.document import Document, Limits
from selfrag.ingest.formats.draft import Draft

_CUE = re.compile(r"[ \t]*((?:\d+:)?\d{1,2}:\d{2})[.,]?\d*[ \t]*-->[ \t]*((?:\d+:)?\d{1,2}:\d{2})[.,]?\d*")
_TAG = re.compile(r"<v(?:\.[\w.]+)?[ \t]+([^>]+)>|</?[a-zA-Z/][^>]*>|<\d[\d:.]*>|\{\\[^}]*\}")


def read_subtitles(path: PurePath, data: bytes, limits: Limits) -> Document:
    """One line per cue, cited by its time: ``00:01:05–00:01:20``. A cue that repeats the previous one is left out."""
    found = Draft(limits)
    time: tuple[str, str] | None = None
    words: list[str] = []
    began, said = 1, ""
    for number, line in enumerate([*decode(data).split("\n"), ""], 1):
        if cue := _CUE.match(line):
            time, words, began = (_clock(cue[1]), _clock(cue[2])), [], number
        elif time and line.strip():
            words.append(html.unescape(_TAG.sub(lambda tag: f"{tag[1]}: " if tag[1] else "", line)).strip())
        elif time:
            text = readable(" ".join(filter(None, words)))
            if text and text != said:
                found.line(text, began, tight=True, time=time)
                said = text
            time = None
    return found.document(path, "subtitles")


def _clock(time: str) -> str:
    parts = [int(part) for part in time.split(":")]
    return ":".join(f"{part:02}" for part in [*[0] * (3 - len(parts)), *parts])
