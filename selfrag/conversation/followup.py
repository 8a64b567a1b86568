"""Rewrites follow-ups as questions that stand alone: "and when was she born?" after a question about Ada Lovelace.

The rules are for English: they replace a pronoun or complete a missing part from the last question and answer if exactly one
reading is likely. Everything else, other languages too, stays as typed. `rewrite_with` asks an instruct model instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfrag.algorithm.words import words
from selfrag.types import Engine, Message, Request

_TOKENS = 60
_LONGEST = 300  # characters of a model's rewriting

_CAPITAL = r"[A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĘĚĞĢĪİŁŃŇŌŐŘŚŞŠŤŪŮŰŹŻŽ]"
_NAME = re.compile(
    rf"(?:\b[Tt]he )?\b{_CAPITAL}[\w'’.-]*\w(?: (?:(?:of|the|de|da|del|der|van|von|al|la|le|du|ibn|bin)(?: the)? )?"
    rf"(?:{_CAPITAL}[\w'’.-]*|[IVX]+\b|\d+\b))*|\b{_CAPITAL}\b(?! )"
)
_ITEM = rf"(?:the )?{_CAPITAL}[\w'’-]*(?: (?:of |the |de |van |von )?{_CAPITAL}[\w'’-]*)*"
_LIST = re.compile(rf"{_ITEM}(?:, {_ITEM})*,? and {_ITEM}")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NO_NAMES = _words("""
    the a an it its he she they his her their this that these those there in on at by from for of to as after before during since
    when while who what which where why how is are was were did does do has have had can could will would and but or so if not no
    yes also although though because whereas despite unlike until unless
    however many most some several all both each one two three four five i we you my our your
    january february march april may june july august september october november december
    monday tuesday wednesday thursday friday saturday sunday
""")
"""Words that are no name where they begin a sentence."""
_DEMONYM = re.compile(r"(?:ish|ese|ian|ean|ench|Dutch|German|Greek|Swiss|Roman)$")
_AUXILIARIES = "is|are|was|were|did|does|do|has|have|had|can|could|will|would|should"
_DOES = "did|does|do|has|have|had|can|could|will|would|should"
_QUESTION = re.compile(
    rf"(?i)^(?P<wh>(?:in |on |at |by |for |from |to |with )?(?:what|which|who|whom|whose|when|where|why|how)\b.*?)"
    rf" (?P<aux>{_AUXILIARIES}) (?P<rest>.+?)\??$"
)
_COMMAND = re.compile(r"(?i)^(?:tell|explain|describe|list|give|show|name|compare)\b")
_LEAD = re.compile(r"(?i)^(?:(?:and|but|so|ok|okay|then|well|hm+)\b[\s,]*)+")
_BARE = re.compile(r"(?i)^(why|when|where|how)(?: (?:so|exactly|then|that))?$")
_ABOUT = re.compile(r"(?i)^(?:what about|how about|what of|and) (.+)$")
_ORDINALS = {"first": 0, "former": 0, "second": 1, "third": 2, "fourth": 3, "fifth": 4, "last": -1, "latter": -1}
_NTH = re.compile(
    rf"(?i)\bthe ({'|'.join(_ORDINALS)})(?: (?:one|of (?:them|these|those)))?(?='s|\s*$|[?,.]| (?:{_AUXILIARIES}|in|on|at|for)\b)"
)
_PRONOUNS = re.compile(
    r"(?i)\b(he|him|his|himself|she|her|hers|herself|it|its|itself|they|them|their|theirs|themselves|there|this|that|these|those)\b"
)
_POSSESSIVE = _words("his hers its their theirs")
_PERSON = _words("he him his himself she her hers herself")
_OTHERS = re.compile(r"(?i)(?:the|any|some) (?:others?|rest)\b|others?\b|everything|everyone")
_PERSON_WORDS = re.compile(
    r"(?i)\b(born|die|died|dies|marry|married|married to|live|lived|grow up|educated|childhood|parents|buried)\b"
)
_PLACE_BEFORE = re.compile(r"(?i)\b(?:in|at|near|from|to|around|of)(?: the)? $")
_IRREGULAR = {
    pair.split(":")[0]: pair.split(":")[1]
    for pair in _words("""
        wrote:written made:made built:built found:found won:won held:held led:led sang:sung drew:drawn took:taken gave:given
        began:begun broke:broken chose:chosen grew:grown knew:known saw:seen shot:shot sold:sold spoke:spoken taught:taught
        threw:thrown wore:worn ran:run set:set put:put bought:bought brought:brought
    """)
}
_PARTICIPLES = frozenset(_IRREGULAR.values()) | {"born", "located", "known", "called"}


@dataclass(frozen=True, slots=True)
class Turn:
    """A question that stands alone, its answer ("" if the program abstained), and the passages that it cites: their titles,
    and the text of the first."""

    question: str
    answer: str = ""
    titles: tuple[str, ...] = ()
    evidence: str = ""


def turn_of(document: Mapping[str, Any]) -> Turn:
    """The turn that an answer's JSON document records."""
    citations = document["citations"] if document["status"] == "answered" else []
    evidence = citations[0]["text"] if citations else ""
    return Turn(document["question"], document["answer"], tuple(citation["title"] for citation in citations), evidence)


def rewrite(typed: str, turns: Sequence[Turn]) -> str:
    """``typed`` as a question that stands alone, after ``turns``, oldest first; ``typed`` unchanged if its meaning is unclear."""
    if not turns or _foreign(typed):
        return typed
    last = turns[-1]
    line = _LEAD.sub("", typed.strip()).rstrip(" ?!.")
    for rule in (_bare, _about, _else, _nth, _pronouns):
        if found := rule(line, last):
            return _question(found)
    return typed


async def rewrite_with(engine: Engine, render: Callable[..., str], typed: str, turns: Sequence[Turn]) -> str:
    """The same by the instruct model behind ``engine``; ``render`` fills prompts/followup.txt. Raises EngineError.

    Output that does not look like one question is discarded: returns ``typed`` itself.
    """
    if not turns:
        return typed
    talk = "\n".join(f"Q: {turn.question}\nA: {turn.answer or '(no answer)'}" for turn in turns[-3:])
    prompt = Message("user", render(conversation=talk, question=typed))
    completion = await engine.complete(Request((prompt,), _TOKENS))
    lines = "".join(token.text for token in completion.tokens).strip().splitlines()
    found = lines[0].strip(" \"'`*") if len(lines) == 1 else ""
    return found if found.endswith(("?", "？")) and len(found) <= _LONGEST else typed


# --- rules: each returns the question, or "" if it does not apply or is unsure -------------------------------------------------


def _bare(line: str, last: Turn) -> str:
    """ "why?": the last question, asked with another word."""
    if not (match := _BARE.match(line)):
        return ""
    word, asked = match[1].lower(), last.question.rstrip(" ?")
    if yes_no := re.match(rf"(?i)^({_AUXILIARIES}) (.+)$", asked):
        if re.match(r"(?i)no\b", last.answer):
            return ""
        return f"{word} {yes_no[1].lower()} {yes_no[2]}"
    if who := re.match(r"(?i)^(?:who|what|which \w+) (\w+) (.+)$", asked):
        participle = _IRREGULAR.get(who[1].lower()) or (who[1] if who[1].endswith("ed") else None)
        if participle and word != "why":
            thing, rest = _split_adjunct(who[2])
            return f"{word} {'were' if ' and ' in thing else 'was'} {thing} {participle}{rest}"
    if (asked_with := _QUESTION.match(asked)) and re.fullmatch(
        r"(?i)when|where|why|how|(in|on) (what|which) \w+", asked_with["wh"]
    ):
        return f"{word} {asked_with['aux']} {asked_with['rest']}"
    return ""


def _about(line: str, last: Turn) -> str:
    """ "what about the Louvre?", "and in Germany?": the last question about something else."""
    about = _ABOUT.match(line)
    what = about[1] if about else line
    if _PRONOUNS.search(what) or _NTH.search(what) or _OTHERS.match(what) or len(what.split()) > 5 or _asks(what):
        return ""
    asked = last.question.rstrip(" ?")
    if preposition := re.match(r"(?i)^(in|on|at|for|from|by|with|to) ", what):
        where = re.compile(rf"(?i)\b{preposition[1]} (?:the )?[\w' -]+$")
        return where.sub(what, asked, count=1) if where.search(asked) else f"{asked} {what}"
    if not about and not re.match(rf"(?:the )?{_CAPITAL}", what):
        return ""
    topic = _topic(last)
    if not topic or topic not in asked:
        return ""
    before, _, after = asked.partition(topic)
    given = what.split()
    for first in range(1, len(given)):  # "what about Rust files?" after "… in Python files"
        if re.match(rf"{re.escape(' '.join(['', *given[first:]]))}\b", after):
            return f"{before}{' '.join(given[:first])}{after}"
    return f"{before}{what}{after}"


def _else(line: str, last: Turn) -> str:
    """ "who else?": the last question again, if it asked with the same word."""
    if (match := re.match(r"(?i)^(who|what|where|when) else$", line)) and last.question.lower().startswith(
        match[1].lower() + " "
    ):
        return f"{match[1]} else{last.question.rstrip(' ?')[len(match[1]) :]}"
    return ""


def _nth(line: str, last: Turn) -> str:
    """ "the second one": an item of what the last answer lists."""
    match = _NTH.search(line)
    items = _listed(last.answer) if match else []
    if not match:
        return ""
    index = _ORDINALS[match[1].lower()]
    if len(items) < 2 or index >= len(items) or (match[1].lower() in ("former", "latter") and len(items) != 2):
        return ""
    item = items[index]
    left = _ABOUT.sub(r"\1", line)
    if left.strip().lower() == match[0].strip().lower():
        return f"{'who' if last.question.lower().startswith('who') else 'what'} is {item}"
    return line[: match.start()] + item + line[match.end() :]


def _pronouns(line: str, last: Turn) -> str:
    """Resolves a pronoun to its referent."""
    found = [match for match in _PRONOUNS.finditer(line) if not _bound(line, match)]
    if not found:
        return ""
    meant: dict[str, str] = {}
    for match in found:
        word = match[0].lower()
        if not (antecedent := _antecedent(word, last)):
            return ""
        meant[word] = antecedent
    if len({_PERSON.isdisjoint((word,)) for word in meant}) > 1 and len(set(meant.values())) < 2:
        return ""  # "did he invent it": two things, one name

    named: set[str] = set()

    def replaced(match: re.Match[str]) -> str:
        word = match[0].lower()
        if _bound(line, match) or word not in meant or meant[word] in named:  # once named, "his" is clear
            return match[0]
        named.add(meant[word])
        owner = word in _POSSESSIVE or (
            word == "her" and re.match(r" [a-z]", line[match.end() :]) and not _ends_here(line, match)
        )
        place = "in " if word == "there" and not re.search(r"(?i)\b(?:in|from|to|near) $", line[: match.start()]) else ""
        return place + (_of(meant[word]) if owner else meant[word])

    return _PRONOUNS.sub(replaced, line)


# --- referents ----------------------------------------------------------------------------------------------------------------


def _antecedent(word: str, last: Turn) -> str:
    """The referent of ``word``, "" if unsure."""
    topic, focus = _topic(last), _focus(last)
    asked = last.question
    who = re.match(r"(?i)^(?:who|whom|whose)\b", asked) is not None
    about = re.match(r"(?i)^who (?:is|was|are|were) ", asked) is not None and not re.match(
        r"(?i)^who (?:is|was|are|were) the [a-z]", asked
    )
    if word in _PERSON:
        if _other_sex(word, last):
            return ""
        if (who and not about) or re.match(
            rf"(?i)^(?:which|what) (?!(?:{_AUXILIARIES})\b)[a-z]+ (?!(?:{_AUXILIARIES})\b)[a-z]", asked
        ):
            return "" if " and " in focus else focus
        return topic if topic[:1].isupper() and (about or _PERSON_WORDS.search(asked) or _speaks_of_person(last)) else ""
    if word == "there":
        if re.match(r"(?i)^where\b", asked) or _identifies(asked):
            return focus or topic
        place = re.search(rf"\bin ((?:the )?{_CAPITAL}[\w'-]*(?: {_CAPITAL}[\w'-]*)*)", asked)
        return place[1] if place else ""
    if word in ("they", "them", "their", "theirs", "themselves"):
        if who and not about:
            return focus or topic
        return focus if _identifies(asked) and focus else topic
    if _identifies(asked) and focus:
        return focus if not topic[:1].isupper() or re.match(r"(?i)^(?:what|which) (?:is|was) the [a-z ]+ of ", asked) else ""
    return "" if about else topic


def _identifies(asked: str) -> bool:
    """Whether a question asks for a thing by its description, so that its answer is the topic of the next question."""
    return (
        re.match(
            r"(?i)^(?:(?:what|which) (?:is|was|are|were) the (?!name\b)[a-z]|(?:what|which) (?!is|was|are|were|do)[a-z]+ )", asked
        )
        is not None
    )


def _topic(last: Turn) -> str:
    """What the last question is about: its one name, a cited title that stands in it, or its subject."""
    asked = last.question.rstrip(" ?")
    names = [name for name in _names(asked) if not asked.startswith(name) or name in last.titles]
    for title in last.titles[:1]:
        if len(title) > 2 and (match := re.search(rf"(?i)\b{re.escape(title)}\b", asked)):
            article = re.search(r"(?i)\bthe $", asked[: match.start()])
            return (("the " if article else "") + match[0]) if len(names) < 2 or match[0] in names else ""
    if len(names) == 1:
        return names[0]
    if names:
        unplaced = [name for name in names if not _PLACE_BEFORE.search(asked[: asked.index(name)])]
        return unplaced[0] if len(unplaced) == 1 else ""
    return _subject(asked)


def _subject(asked: str) -> str:
    """The subject of a question without names: "the transistor" of "When was the transistor invented"."""
    who = re.match(r"(?i)^who (\w+) ((?:the |a |an )?[\w -]+)$", asked)
    if who and (who[1].lower() in _IRREGULAR or who[1].endswith("ed")):
        return _split_adjunct(who[2])[0]
    match = _QUESTION.match(asked)
    if not match:
        return ""
    words = match["rest"].split()
    taken: list[str] = []
    verb = (
        re.fullmatch(rf"(?i){_DOES}", match["aux"]) is not None
    )  # it ends with a verb: "ripgrep look", of "does ripgrep look for"
    for position, word in enumerate(words):
        participle = word.lower() in _PARTICIPLES or (word.endswith("ed") and position > 0)
        if taken and (participle or word in ("in", "of", "for", "from", "to", "used", "different", "similar")):
            verb = verb and not participle and (len(taken) > 1)
            break
        taken.append(word)
    if verb:
        taken = taken[:-1]
    if taken and taken[0].lower() in ("a", "an"):
        taken[0] = "the"
    return " ".join(taken) if 0 < len(taken) <= 4 and taken != ["the"] else ""


def _focus(last: Turn) -> str:
    """The one name that the answer brings in; several joined by "and" count as one."""
    first = re.split(r"(?<=[.!?]) (?=[A-Z])", last.answer, maxsplit=1)[0]
    asked = " ".join(words(last.question))
    if len(listed := _LIST.findall(first)) == 1 and len(_listed(first)) > 1:
        return str(listed[0])
    new = [name for name in _names(first) if " ".join(words(name)) not in asked]
    if not new:
        return ""
    who = re.match(r"(?i)^who", last.question)
    titled = [name for name in new if words(name) in [words(title) for title in last.titles]]
    if len(new) == 1 or len(titled) == 1:
        return (titled or new)[0]
    subject = first.startswith(new[0])
    by = re.search(rf"\bby (?:[a-z]+ )*(?:\w+(?:ish|ese|ian|an) )?(?:[a-z]+ )*({re.escape(new[0])})", first)
    return new[0] if subject or (who and by) else ""


def _names(text: str) -> list[str]:
    """The capitalised names of ``text``, each once, in order."""
    found: list[str] = []
    for match in _NAME.finditer(text):
        words = match[0].split()
        while words and words[0].lower() in _NO_NAMES and not (words[0].lower() == "the" and len(words) > 1):
            words = words[1:]
        if not words or words == ["the"]:
            continue
        name = re.sub(r"['’]s$|[.,;:'’-]+$", "", " ".join(words))
        if name.startswith("The "):
            name = "the " + name[4:]
        bare = name.removeprefix("the ")
        if bare.lower() in _NO_NAMES or (_DEMONYM.search(bare) and re.match(r" [a-z]", text[match.end() :])):
            continue
        if name not in found:
            found.append(name)
    return found


def _listed(answer: str) -> list[str]:
    """The items of the one enumeration in ``answer``: "Io, Europa, Ganymede and Callisto"."""
    found = _LIST.findall(answer)
    return re.split(r",? and |, ", found[0]) if len(found) == 1 else []


def _speaks_of_person(last: Turn) -> bool:
    return re.search(r"\b(?:He|She|he|she|his|her)\b", last.answer) is not None


def _other_sex(word: str, last: Turn) -> bool:
    """Whether the evidence is about a person of the other sex than ``word``."""
    he, she = (
        len(re.findall(rf"(?i)\b(?:{words})\b", last.evidence)) for words in ("he|his|him|himself", "she|her|hers|herself")
    )
    return he > she if word.startswith(("she", "her")) else she > he


def _bound(line: str, match: re.Match[str]) -> bool:
    """Whether a pronoun needs no earlier turn: its name precedes it in the line, or it is not a pronoun here."""
    word, before, after = match[0].lower(), line[: match.start()], line[match.end() :]
    if word in ("this", "that", "these", "those"):
        return bool(re.match(r" \w", after)) and not re.match(rf"(?i) (?:{_AUXILIARIES}|mean|happen)", after)
    if word == "there":
        return re.search(rf"(?i)\b(?:{_AUXILIARIES}) $", before) is not None
    if word == "it" and re.match(r"(?i) (?:rain|snow|take|possible|true)", after):
        return True
    own = re.search(rf"(?i)\b(?:{_DOES}) (?:the |a |an )?([a-z][\w-]*) \w+ (?:\w+ )*$", before)  # "does an editor look for its"
    if own and word in _POSSESSIVE and not _PRONOUNS.fullmatch(own[1]) and own[1].endswith("s") == word.startswith("their"):
        return True
    return any(name for name in _names(before) if before.strip() != name or len(before.split()) > 1)


def _ends_here(line: str, match: re.Match[str]) -> bool:
    """ "her" as an object: nothing, or a preposition, comes after it."""
    return re.match(r" (?:in|on|at|for|from|by|with|to|when|after|before|so)\b", line[match.end() :]) is not None


def _of(name: str) -> str:
    return f"{name}'" if name.endswith("s") else f"{name}'s"


def _split_adjunct(text: str) -> tuple[str, str]:
    """ "the book in 1900" as "the book" and " in 1900"."""
    match = re.search(r" (?:in|on|at|for|during) ", text)
    return (text[: match.start()], text[match.start() :]) if match else (text, "")


def _asks(text: str) -> bool:
    return (
        re.match(
            rf"(?i)^(?:(?:in |at |by )?(?:who|what|which|when|where|why|how|whose|whom)|{_AUXILIARIES}|tell|explain|give)\b", text
        )
        is not None
    )


def _foreign(text: str) -> bool:
    """Whether most letters are of a script other than the Latin one."""
    letters = [c for c in text if c.isalpha()]
    return sum(ord(c) > 0x24F for c in letters) * 2 > len(letters)


def _question(text: str) -> str:
    text = " ".join(text.split())
    return f"{text[:1].upper()}{text[1:]}" + ("." if _COMMAND.match(text) else "?")
