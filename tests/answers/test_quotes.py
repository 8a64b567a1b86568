"""Where in a passage an answer's words stand, and the whole sentence around them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfrag.algorithm.joined import EXPLAINED as MOST
from selfrag.algorithm.sentences import completed, pieces, units
from selfrag.answers.quotes import ROOM, Found, continued, folded, occurrences, quote_of

PAGE = """# Ownership

Rust's *ownership* is unique. Each value has an _owner_, which is
the variable. Dr. Smith (see Fig. 3) disagrees, e.g. in v1.2.

- Run `cargo new`. It makes a folder.
- Second item

| name | size |
|------|------|
| heron | 90 cm |
| wren | 10 cm |

To build it:

```sh
cargo build
cargo run
```

오늘은 서울에서 만났다. 내일은 부산이다. 彼は言った。「そうだ。」今天天气好。我们走吧！
"""


def quoted(written: str, text: str = PAGE, question: str = "") -> tuple[str, str | None]:
    """The quote, and the model's words in it."""
    found = quote_of(written, text, question)
    assert found
    quote = text[found.start : found.end]
    return quote, quote[slice(*found.span)] if found.span else None


@pytest.mark.parametrize(
    ("written", "quote", "span"),
    [
        ("owner", "Each value has an _owner_, which is\nthe variable.", "owner"),
        (
            "an owner, which is the variable.",
            "Each value has an _owner_, which is\nthe variable.",
            "an _owner_, which is\nthe variable.",
        ),
        ("dr. smith", "Dr. Smith (see Fig. 3) disagrees, e.g. in v1.2.", "Dr. Smith"),
        ("v1.2", "Dr. Smith (see Fig. 3) disagrees, e.g. in v1.2.", "v1.2"),
        ("cargo new", "Run `cargo new`.", "cargo new"),
        ("Second item", "Run `cargo new`. It makes a folder.\n- Second item", "Second item"),
        ("10 cm", "| wren | 10 cm |", "10 cm"),
        ("cargo run", "To build it:\n\n```sh\ncargo build\ncargo run\n```", "cargo run"),
        ("서울", "오늘은 서울에서 만났다.", "서울"),
        ("そうだ", "「そうだ。」", "そうだ"),
        ("天气", "今天天气好。", "天气"),
    ],
)
def test_written_words_are_found_in_their_sentence(written: str, quote: str, span: str) -> None:
    """In prose, lists, tables, code, Korean, Japanese and Chinese; case, emphasis and line breaks do not matter."""
    assert quoted(written) == (quote, span)


def test_of_several_places_the_one_that_fits_the_question() -> None:
    """A word that stands in several sentences is quoted from the one that shares most with the question; else from the first."""
    text = "It opened in 1889. The tower was repainted in 1907. The lift of the tower was built in 1889 by Otis."
    assert quoted("1889", text, "When was the lift built?")[0] == "The lift of the tower was built in 1889 by Otis."
    assert quoted("1889", text)[0] == "It opened in 1889."


def test_what_was_asked_is_quoted_too() -> None:
    """Where the sentence beside says what was asked of a name, and the name's own sentence does not, both are quoted."""
    text = "It rained. John Kennedy was the 35th president. He was the youngest person elected president. He sailed."
    both = "John Kennedy was the 35th president. He was the youngest person elected president."
    assert quoted("John Kennedy", text, "Who was the youngest president to be elected?") == (both, "John Kennedy")
    assert quoted("John Kennedy", text, "Who was the 35th president?")[0] == "John Kennedy was the 35th president."


def test_words_are_whole() -> None:
    """ "own" is not found in "owner"; a Korean noun is found before its particle."""
    assert occurrences("own", "The owner owns it. Own it.") == [(19, 22)]
    assert occurrences("서울", "서울에서 서울로") == [(0, 2), (5, 7)]


def test_a_paraphrase_is_aligned() -> None:
    """Other words for a sentence are matched with the sentence that shares the rare ones; there is no span then."""
    assert quoted("The tool creates a folder for you") == ("Run `cargo new`. It makes a folder.", None)
    both = "Ada wrote the first program. Babbage built the engine. It rained."
    assert (
        quoted("Ada wrote a program and Babbage built an engine", both)[0]
        == "Ada wrote the first program. Babbage built the engine."
    )


def test_yes_rests_on_what_was_asked() -> None:
    """An answer that shares no word with the passage rests on the sentence that the question is about, or on none."""
    assert quoted("yes", question="Does each value have an owner?")[0].startswith("Each value has")
    assert quote_of("yes", PAGE, "Is Mars red?") is None
    assert quote_of("", PAGE, "owner") is None
    assert quote_of("owner", "", "owner") is None


def test_what_leads_on_is_quoted_with_what_follows() -> None:
    """A heading, or words that end with a colon, cannot be read alone; a code block is quoted to its end."""
    assert quoted("Ownership")[0].startswith("Rust's")  # a sentence, rather than the heading
    assert quoted("to build it")[0] == "To build it:\n\n```sh\ncargo build\ncargo run\n```"


def test_bullets_and_numbers_are_not_quoted() -> None:
    """The marks of lists stand outside of what is quoted, in text from PDFs too; a first name's initial is no list."""
    text = "• first thing\n• second thing\n\n1. Number one.\n2) Number two.\n\nA. Lincoln was tall."
    assert [text[u.start : u.end] for u in units(text)] == [
        "first thing",
        "second thing",
        "Number one.",
        "Number two.",
        "A. Lincoln was tall.",
    ]


def test_a_paragraph_that_begins_with_a_hash_is_no_heading() -> None:
    """Numbered items of reStructuredText and hashtags are read as sentences; a heading's words are one unit, in a list too."""
    assert pieces("#. Sign in.\n#. Click the button.") == ["Sign in.", "Click the button."]
    assert pieces("#1 is the best.") == ["#1 is the best."]
    text = "# Title\n\nSome words.\n\n- ## Part\n"
    assert [text[u.start : u.end] for u in units(text)] == ["Title", "Some words.", "Part"]


@given(st.text(max_size=60), st.text(max_size=200), st.text(max_size=30))
def test_offsets_always_lie_in_the_text(written: str, text: str, question: str) -> None:
    """Whatever the texts are, units follow one another, and a quote and its span lie where they say."""
    found = units(text)
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert all(0 <= u.start < u.end <= len(text) for u in found)
    match quote_of(written, text, question):
        case Found(start, end, span):
            assert 0 <= start < end <= len(text)
            assert span is None or 0 <= span[0] <= span[1] <= end - start


@given(st.text(alphabet="ab 한“”’—*_`\n", max_size=80), st.data())
def test_a_verbatim_span_is_found_verbatim(text: str, data: st.DataObject) -> None:
    """Any piece of whole words of a text is found in it, and what is found reads the same."""
    words = text.split()
    if not words:
        return
    i = data.draw(st.integers(0, len(words) - 1))
    piece = " ".join(words[i : data.draw(st.integers(i + 1, len(words)))])
    wanted = folded(piece)[0].strip()
    if wanted:
        assert any(wanted in folded(text[a:b])[0] for a, b in occurrences(piece, text))


SHELLS = """Some words before.

Completion exists for these shells:

- Bash
- Zsh, which
  macOS has
- fish

Install it:

=== "Unix"

    ```console
    $ tool completion
    ```

=== "Windows"

    Run `tool.exe`.

Some words behind.
"""


def test_an_item_is_quoted_with_its_list_and_what_leads_to_it() -> None:
    """One item of a list does not answer which there are; the list that follows a colon is quoted whole."""
    quote = "Completion exists for these shells:\n\n- Bash\n- Zsh, which\n  macOS has\n- fish"
    assert quoted("Bash", SHELLS) == (quote, "Bash")
    assert quoted("fish", SHELLS) == (quote, "fish")
    assert quoted("Completion exists for these shells:", SHELLS)[0].startswith("Completion exists for these shells:")


def test_a_long_list_is_quoted_by_item() -> None:
    """Where the list has no room, the quote ends with the item, or is the item alone."""
    text = "They are:\n\n" + "".join(f"- item {n} {'of many words ' * 8}\n" for n in range(9))
    assert quoted("item 1", text)[0].startswith("They are:\n\n- item 0")
    assert quoted("item 8", text)[0].startswith("item 8 of many")


def test_the_tabs_of_a_manual_are_quoted_together() -> None:
    """A tab's title cannot be quoted by itself; the tabs are alternatives, read with the words that lead to them."""
    whole = SHELLS[SHELLS.index("Install it:") : SHELLS.index("\n\nSome words behind")]
    assert quoted("tool completion", SHELLS) == (whole, "tool completion")
    assert quoted('"Unix"', SHELLS) == (whole, '"Unix"')
    assert quoted("tool.exe", SHELLS) == (whole, "tool.exe")
    assert quoted("Some words behind.", SHELLS)[0] == "Some words behind."


def test_what_only_leads_to_a_list_is_completed_with_it() -> None:
    """Words that end with a colon and stand in the passage are read with their list or code; others stay as they are."""
    assert completed("Completion exists for these shells:", SHELLS).endswith("- fish")
    assert completed("Completion exists for:", SHELLS) == "Completion exists for:"
    assert completed("Some words before.", SHELLS) == "Some words before."


def test_a_passage_is_cut_into_pieces_that_can_be_read_alone() -> None:
    """Sentences, and lists, code and tabs with what leads to them; none twice."""
    assert [piece.split("\n")[0] for piece in pieces(SHELLS)] == [
        "Some words before.", "Completion exists for these shells:", "Install it:", "Some words behind.",
    ]  # fmt: skip


def test_code_that_nothing_leads_to_cannot_be_read_alone() -> None:
    """An example's output is no answer; of code too long to be read whole there is one piece, its beginning with its lead."""
    lines = "".join(f"output line {n} of the example that is shown\n" for n in range(20))
    assert pieces(f"It is shown.\n\n```\n{lines}```\n\nAs above.\n") == ["It is shown.", "As above."]
    [lead, last] = pieces(f"It prints:\n\n```\n{lines}```\n\nAs above.\n")
    assert lead.startswith("It prints:\n\n```\noutput line 0")
    assert last == "As above."


def test_how_something_is_done_is_quoted_with_its_code() -> None:
    """Code that follows the sentence at once belongs to the answer of a question that asks how, and of no other."""
    text = "You may set your name.\n\n```sh\ntool config name\n```\n\nIt is shown.\n"
    assert quoted("You may set your name.", text, "How do I set my name?")[0].endswith("tool config name\n```")
    assert quoted("You may set your name.", text, "What may I set?")[0] == "You may set your name."
    assert quoted("It is shown.", text, "How do I set my name?")[0] == "It is shown."


def test_a_sentence_that_begins_with_a_pronoun_is_quoted_with_the_one_before() -> None:
    """Alone it does not say whom it is about; the sentence of another paragraph, or of no relation, is not added."""
    text = "# Fungi\n\nThe Ascomycota are a phylum. It is the largest phylum of Fungi. Yeasts belong to it.\n\nThey rise.\n"
    assert quoted("the largest phylum", text)[0] == "The Ascomycota are a phylum. It is the largest phylum of Fungi."
    assert quoted("Yeasts", text)[0] == "Yeasts belong to it."
    assert quoted("They rise", text)[0] == "They rise."
    assert quoted("The Ascomycota", text)[0] == "The Ascomycota are a phylum."
    assert quoted("it is like a router", "A relay passes data on. In that respect it is like a router.")[0].startswith("A relay")


def test_a_paraphrase_of_words_that_lead_to_code_is_aligned_with_that_code() -> None:
    """Not with the code before them, which may have the same words."""
    code = "```sh\ntool run {}x.py\n```\n\n"
    text = "It fails:\n\n" + code.format("") + "Ask for it by the `--with` option:\n\n" + code.format("--with rich ")
    quote = quoted("To ask for it with the `--with` option, run `tool run --with rich x.py`.", text)[0]
    assert quote.startswith("Ask for it")
    assert quote.endswith("tool run --with rich x.py\n```")


def going_on(written: str, text: str) -> str:
    """What is quoted after the words ``written``."""
    at = text.index(written)
    found = continued(Found(at, at + len(written), (0, len(written))), text, MOST)
    assert (found.start, found.span) == (at, (0, len(written)))
    return text[at + len(written) : found.end]


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("A barn is a building. It holds hay. It is dry.\n\nIt burns.", " It holds hay. It is dry."),
        ("A barn is a building.\nIt holds\nhay.\n", "\nIt holds\nhay."),
        ("A barn is a building.\n\nIt burns.", ""),
        ("A barn is a building.\n# Fire\nIt burns.", ""),
        ("A barn is a building.\nFire in barns\nIt burns.", ""),
        ("A barn is a building. It holds hay. What is a shed?\nA hut.", " It holds hay."),
        ("A barn is a building. See the chapter on sheds. It is dry.", ""),
        ("A barn is a building.\n| barn | 9 m |\n| shed | 2 m |", ""),
        ("A barn is a building.\n- It burns.\n- It rots.", ""),
        ("A barn is a building. It holds:\n\n- hay\n- corn\n\nIt burns.", " It holds:\n\n- hay\n- corn"),
        ("A barn is a building. Build it:\n\n```sh\nbuild barn\n```\n\nIt burns.", " Build it:\n\n```sh\nbuild barn\n```"),
        ("A barn is a building. It holds:", ""),
        (f"A barn is a building. It holds {'hay ' * MOST}. It is dry.", ""),
        (f"A barn is a building. It holds:\n\n- hay\n- {'corn ' * (ROOM // 5)}\n", ""),
    ],
    ids=[
        "the paragraph", "lines", "another paragraph", "a heading", "a title without markup", "a question", "a pointer",
        "a table", "a list", "a list that is led to", "code that is led to", "nothing led to", "too many words",
        "too long a list",
    ],
)  # fmt: skip
def test_a_quote_goes_on_to_the_end_of_its_paragraph(text: str, more: str) -> None:
    """With whole sentences while they are short, and with what the last one leads to; it stops at what is another matter."""
    assert going_on("A barn is a building.", text) == more


def test_a_list_or_code_that_is_quoted_does_not_go_on() -> None:
    """What is quoted of a list, of a table or of code is complete."""
    assert going_on("- Bash\n- Zsh, which\n  macOS has\n- fish", SHELLS) == ""
    assert going_on("| heron | 90 cm |", PAGE) == ""


@given(st.text(max_size=200), st.data())
def test_a_quote_that_goes_on_lies_in_the_text(text: str, data: st.DataObject) -> None:
    """Whatever the text is, the quote begins where it began and ends in the text, not before its old end."""
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    assert end <= continued(Found(start, end), text, MOST).end <= max(end, len(text))
