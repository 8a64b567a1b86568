"""A stored search as a page: what it holds, and what a browser makes of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode

import pytest

from selfrag.answers import html, markdown, trace
from selfrag.answers.rescore import rescore
from selfrag.types import Passage, SearchOptions, Support, Weights
from tests.algorithm.test_search import Shelf, after, agent, backed, judged, model, passage, useful
from tests.answers.test_render import BOOK, EVENTS, FIRST, TOWER, answer
from tests.answers.test_trace import ASK, searched
from tests.scripted_engine import words

pytestmark = pytest.mark.slow

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine (apt-get install chromium)")


def stored(**changes: object) -> trace.Trace:
    return trace.read(trace.trace_json(answer(**changes), EVENTS))


def dom(page: str, folder: Path, weights: str = "") -> str:
    """The page's elements after its script has run."""
    file = folder / "page.html"
    file.write_text(page, "utf-8")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run([*command, f"{file.as_uri()}#{weights}"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def text_of(page: str) -> str:
    """The words that a page shows, without its script and style."""
    words: list[str] = []
    parser = HTMLParser()
    parser.handle_data = words.append  # type: ignore[method-assign]
    parser.feed(re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL))
    return " ".join("".join(words).split())


def test_a_page_loads_nothing_and_documents_stay_text() -> None:
    """No address of another file or host, a policy that forbids loading, and no markup of a document in the page."""
    nasty = replace(TOWER, text="</script><script>alert(1)</script> <b>built in 1889</b> \u202e")
    page = html.page(trace.read(trace.trace_json(answer(), replaced(nasty))))
    assert "<script>alert" not in page
    assert page.count("</script>") == 2
    assert "default-src 'none'" in page
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert "\u202e" not in page


def replaced(passage: Passage) -> list[trace.Event]:
    """The events of a search with another first passage."""
    changed = []
    for event in EVENTS:
        if getattr(event, "passage", None) is TOWER:
            event = replace(event, passage=passage)  # type: ignore[call-arg]
        if getattr(event, "passages", None):
            event = replace(event, passages=(passage, BOOK))  # type: ignore[call-arg]
        if getattr(event, "segment", None):
            event = replace(event, segment=replace(FIRST, passage=passage))  # type: ignore[call-arg]
        changed.append(event)
    return changed


async def test_candidates_are_those_that_rescoring_reads() -> None:
    """Every written candidate is in the page in its order, with the numbers of its critique and its parent."""
    found, recorder = await searched(5)
    read = trace.read(trace.trace_json(found, recorder.events))
    events = [event for event in read.events if event["event"] == "expanded"]
    assert [(c["id"], c["parent"]) for c in html.candidates(read)] == [(e["candidate"], e["path"]) for e in events]
    assert all(
        c["critique"]["issup"] == e["segment"]["critique"]["issup"] for c, e in zip(html.candidates(read), events, strict=True)
    )


def test_quotes_are_marked_in_their_passages() -> None:
    """A passage in the page carries the offsets of what was quoted of it."""
    quotes = html.content(stored())["passages"]["c1"]["quotes"]
    assert [TOWER.text[q["start"] : q["end"]] for q in quotes] == [TOWER.text]


@needs_browser
def test_the_page_shows_the_search(tmp_path: Path) -> None:
    """A browser shows the question, the answer with its quote and critiques, the tree with what was pruned and why."""
    page = dom(html.page(stored(), Path("/docs")), tmp_path)
    words = text_of(page)
    for wanted in (
        "When was it built?",
        "It was built in 1889.",
        "“The tower was built in 1889.”",
        "tower.md:3",
        "evidence is needed (p 0.97)",
        "pruned before writing: at most 1.100, needed 2.410",
        "Chosen: It was built in 1889.",
    ):
        assert wanted in words, wanted
    assert "<mark>The tower was built in 1889.</mark>" in page
    assert 'role="meter" aria-label="ISSUP"' in page
    labelled = set(re.findall(r'<label for="([^"]+)"', page))
    assert set(re.findall(r'<input type="range"[^>]* id="([^"]+)"', page)) <= labelled


@needs_browser
def test_the_page_is_used_by_keyboard_and_read_aloud(tmp_path: Path) -> None:
    """Every control is an element of HTML with a name; none lies in another one; the table scrolls by key, and a link leads the
    focus to its passage."""
    page = dom(html.page(stored(), Path("/docs")), tmp_path)
    assert re.findall(r"<summary>", page)
    assert not re.findall(r"<summary>(?:(?!</summary>).)*<(?:a|button|input)\b", page, re.DOTALL)
    assert not re.findall(r"\bon(?:click|key\w+)=", page)
    for control in re.findall(r'<input type="checkbox"[^>]*>|<select [^>]*>', page):
        assert re.search(rf"<label>(?:(?!</label>).)*{re.escape(control)}", page, re.DOTALL), control
    assert all('aria-valuetext="' in control for control in re.findall(r'<input type="range"[^>]*>', page))
    assert re.search(r'<div class="scroll" role="region" aria-labelledby="(\S+)" tabindex="0"><table><caption id="\1"', page)
    targets = set(re.findall(r'href="#([^"]+)"', page))
    assert targets
    assert targets <= set(re.findall(r'<article [^>]*\bid="([^"]+)"[^>]* tabindex="-1"', page))
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def luminance(colour: str) -> float:
    """Of WCAG 2."""
    digits = colour.lstrip("#")
    wide = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    shares = [int(wide[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    r, g, b = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast(theme: str) -> None:
    """In both themes text has the contrast of WCAG AA (4.5), and a bar stands out from its track (3)."""
    template = (Path(html.__file__).parent / "page.html").read_text("utf-8")
    blocks = re.findall(r":root \{([^}]*)\}", template)
    colours = dict(re.findall(r"--(\w+): (#\w+)", blocks[0]))
    if theme == "dark":
        assert colours.keys() == dict(re.findall(r"--(\w+): (#\w+)", blocks[1])).keys()
        colours = dict(re.findall(r"--(\w+): (#\w+)", blocks[1]))

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(colours[one]), luminance(colours[other])))
        return (high + 0.05) / (low + 0.05)

    for ink in ("ink", "soft", "accent", "good", "fair", "poor"):
        assert min(contrast(ink, "back"), contrast(ink, "card")) >= 4.5, ink
    assert min(contrast("ink", "mark"), contrast("ink", "span")) >= 4.5
    assert min(contrast(level, "line") for level in ("good", "fair", "poor")) >= 3


CASES: list[tuple[int, Weights, Support | None]] = [
    (3, Weights(), None),
    (5, Weights(0.3, 2.5, 0.1, sequence=False, ret=1.7), None),
    (8, Weights(2, 0, 1.25), "partial"),
]


@needs_browser
@pytest.mark.parametrize(("seed", "weights", "support"), CASES)
async def test_the_page_ranks_as_rescoring_does(seed: int, weights: Weights, support: Support | None, tmp_path: Path) -> None:
    """Under other weights, and under the support constraint, best answer and score are those of `trace rescore`."""
    options: SearchOptions = replace(ASK, abstain_issup=0.3)
    found, recorder = await searched(seed, options)
    read = trace.read(trace.trace_json(found, recorder.events))
    again = rescore(read, weights, support)
    given = {"rel": weights.rel, "sup": weights.sup, "use": weights.use, "ret": weights.ret}
    hashed = urlencode({**given, "sequence": json.dumps(weights.sequence), "support": support or ""})
    page = dom(html.page(read), tmp_path, hashed)
    scores = [float(score) for score in re.findall(r'data-score="([^"]+)"', page)]
    assert scores == sorted(scores, reverse=True)
    assert (scores[0] if scores else 0.0) == pytest.approx(again["score"], abs=1e-12)
    chosen = re.search(r'id="best"[^>]*>([^<]*)<', page)
    assert chosen
    assert chosen[1].startswith("Chosen: ") == (again["status"] == "answered")
    if again["status"] == "answered":
        assert chosen[1] == f"Chosen: {again['answer']}"


@needs_browser
@pytest.mark.parametrize("weights", [Weights(), Weights(0.1, 0.1, 3.0, sequence=False)])
@pytest.mark.parametrize("question", ["Why is it famous?", "When was it built?"])
async def test_the_page_joins_as_rescoring_does(question: str, weights: Weights, tmp_path: Path) -> None:
    """What other passages add to an open question is in the page's answer, too, under any weights; one fact stays one."""
    engine = model(
        {
            after(1): [judged(0.9), *words("first thing"), backed(0.95), useful(5)],
            after(2): [judged(0.8), *words("first thing"), backed(0.9), useful(5)],
            after(3): [judged(0.7), *words("other words"), backed(0.9), useful(4)],
            after(4): [judged(0.6), *words("more than that"), backed(0.9), useful(2)],
        }
    )
    options = replace(ASK, max_segments=4, beam_width=4, join_isuse=0.3, prune=False)
    recorder = trace.Recorder()
    asked = agent(engine, Shelf(*(passage(n) for n in range(1, 5))), options)
    read = trace.read(trace.trace_json(await asked.ask(question, observer=recorder), recorder.events))
    again = rescore(read, weights)
    assert again["answer"] == ("first thing other words" if question.startswith("Why") else "first thing")
    hashed = urlencode({"rel": weights.rel, "sup": weights.sup, "use": weights.use, "sequence": json.dumps(weights.sequence)})
    page = dom(html.page(read), tmp_path, hashed)
    assert f">Chosen: {again['answer']}<" in page
    best = re.search(r'class="best" data-score="([^"]+)"', page)
    assert best
    assert float(best[1]) == pytest.approx(again["score"], abs=1e-12)


def test_markdown_holds_answer_and_sources() -> None:
    """Question, the sentence with the model's words set off, critique, sources; markup of documents is escaped."""
    piece = replace(FIRST, text="in 1889")
    found = markdown.document(
        trace.trace_json(answer(segments=(replace(answer().segments[0], segment=piece),)), EVENTS)["answer"]
    )
    assert "# When was it built?" in found
    assert "The tower was built **in 1889**. \\[1\\]" in found
    assert "ISREL 0.98 · ISSUP 0.93" in found
    assert "1. /docs/tower.md:3 (Eiffel Tower)" in found
    assert markdown.escaped("a <b> *c*\n# d") == r"a \<b\> \*c\* \# d"


def test_markdown_of_an_abstention_shows_the_nearest() -> None:
    """An abstention says why, and quotes the nearest evidence."""
    found = markdown.document(trace.trace_json(answer(status="abstained", text="", segments=()), EVENTS)["answer"])
    assert "**No answer:**" in found
    assert "> Eiffel was an engineer." in found


def test_markdown_keeps_the_lines_of_code() -> None:
    """A command that an answer holds is on a line of its own, not run into the words before it."""
    chunk = replace(answer().evidence[0], text="To build it:\n\n```sh\nmake all\n```\n")
    piece = replace(answer().segments[0].segment, text="To build it:\n\n```sh\nmake all\n```", passage=chunk)
    stored = trace.trace_json(answer(segments=(replace(answer().segments[0], segment=piece),), evidence=(chunk,)), EVENTS)[
        "answer"
    ]
    assert "To build it:\\\nmake all" in markdown.document(stored)
