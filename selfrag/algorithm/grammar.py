"""The prompt grammar of Self-RAG: the order of text and control tokens. Pure: parts, no token ids.

Inference, training rows and `selfrag train eval` build their prompts from these functions and encode the parts with the same
`engines.tokenizer.PromptTokenizer`, so that prompts have exactly the form of the training data:

    ### Instruction:\\n…\\n\\n### Response:\\n
    [Retrieval]<paragraph>title\\ntext</paragraph>[Relevant]sentence[Fully supported]
    [Continue to Use Evidence]sentence[Utility:5]
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise

from selfrag import prompts
from selfrag.algorithm.reflection import CONTINUE, END_PARAGRAPH, NO_RETRIEVAL, PARAGRAPH, RETRIEVAL
from selfrag.algorithm.sentences import is_row
from selfrag.types import Control, Generated, Part, Passage, Prompt, Segment, Text, Token

_WRAPPED = 40
"""The minimum length, in characters, of a line that is taken for a wrapped one."""
_OPEN = re.compile(r"[^\s.!?:;|{}]$")
_GOES_ON = re.compile(r"(?!\d{1,3}[.)] |[-*+] |_{3}|```)[\w(\"'“‘`*\[&]")


def instruction(text: str, extra: str = "") -> Text:
    """The prompt up to the beginning of the response; ``extra`` is a separate input."""
    if extra:
        return Text(prompts.load("selfrag/instruction_with_input").render(instruction=text, input=extra))
    return Text(prompts.load("selfrag/instruction").render(instruction=text))


def paragraph(title: str, text: str) -> tuple[Control, Text, Control]:
    """A passage between its markers, its wrapped lines joined, always encoded as text, never as control tokens."""
    return Control(PARAGRAPH), Text(f"{title}\n{unwrapped(text)}"), Control(END_PARAGRAPH)


def unwrapped(text: str) -> str:
    """``text`` with a space for every line break inside a sentence: a model that copies a sentence would stop there. The offsets
    stay. Blank lines, lists, headings, tables, indented lines and fenced code stay as they are."""
    lines = text.split("\n")
    fenced, made = False, lines[0]
    for before, line in pairwise(lines):
        fenced ^= before.lstrip().startswith("```")
        words = not (fenced or is_row(before) or is_row(line))
        goes_on = words and len(before) >= _WRAPPED and _OPEN.search(before) and _GOES_ON.match(line)
        made += f"{' ' if goes_on else chr(10)}{line}"
    return made


def evidence(title: str, text: str) -> tuple[Control, Control, Text, Control]:
    """`[Retrieval]`, then the passage."""
    return Control(RETRIEVAL), *paragraph(title, text)


def lead_in(passage: Passage | None, carry: bool) -> tuple[Part, ...]:
    """The prefix of a segment: new evidence, the token to continue with the old, or the token for "no evidence needed"."""
    if carry:
        return (Control(CONTINUE),)
    return evidence(passage.title, passage.read) if passage else (Control(NO_RETRIEVAL),)


def prompt(asked: str, path: Sequence[Segment], *after: Part) -> Prompt:
    """The instruction, the segments written so far, each with its prefix, then ``after``."""
    written = [part for s in path for part in (*lead_in(s.passage, s.carry), *replayed(s.tokens))]
    return joined(instruction(asked), *written, *after)


def replayed(tokens: Iterable[Token]) -> tuple[Part, ...]:
    """Generated tokens as parts of a prompt: words by their ids, reflection tokens by their names."""
    parts: list[Part] = []
    for name, run in groupby(tokens, key=lambda token: token.control):
        same = tuple(run)
        parts += [Generated(same)] if name is None else [Control(name)] * len(same)
    return tuple(parts)


def joined(*parts: Part) -> Prompt:
    """The parts without empty texts; neighbouring texts are joined and so encoded as one."""
    made: list[Part] = []
    for part in parts:
        if isinstance(part, Text) and made and isinstance(made[-1], Text):
            made[-1] = Text(made[-1].text + part.text)
        elif not (isinstance(part, Text) and not part.text) and not (isinstance(part, Generated) and not part.tokens):
            made.append(part)
    return tuple(made)
