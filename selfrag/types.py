"""The values that pass between the parts of selfrag, and the protocols between them. No behaviour.

Everything here is frozen. Probabilities are in [0, 1], log-probabilities are natural logarithms, and a *control* token is one
of the fifteen reflection tokens, named by its literal text (``"[Relevant]"``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Mode = Literal["adaptive", "always", "never"]
Support = Literal["full", "partial"]
Finish = Literal["stop", "end", "length", "cancelled"]
Status = Literal["answered", "abstained", "error"]
Graph = Literal["off", "auto", "on"]
Standing = Literal["found", "doubtful", "not found"]
ReflectionKind = Literal["tokens", "prompted"]


# --- options -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Option:
    """The documentation of an option; its name, type and default are those of the dataclass field.

    Numbers lie in [``low``, ``high``]. ``flags`` are the names on the command line: None: ``--the-field's-name``, (): no flag.
    ``fitted`` says that a model's registry entry or a profile may bring a default of its own.
    """

    help: str
    metavar: str = ""
    low: float = 0.0
    high: float = float("inf")
    flags: tuple[str, ...] | None = None
    fitted: bool = False


def option(default: Any, help: str, **more: Any) -> Any:
    """A dataclass field that is an option: from it, `config.options` derives the flag, the setting and their help."""
    return field(default=default, metadata={"option": Option(help, **more)})


# --- engines -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Text:
    """Text of a person, a document or a template. It never becomes a control token, whatever it contains."""

    text: str


@dataclass(frozen=True, slots=True)
class Control:
    """One reflection token, written by the program."""

    token: str


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token.

    ``control`` names the reflection token that this is, decided by its id; None for ordinary text, even text that reads
    ``[Relevant]``. ``watched`` maps each watched name to its log-probability at this position; a name that the engine could
    not report is missing. The texts of a completion's tokens join to its decoded text (a piece of a character counts with the
    token that completes it; control and end-of-sequence tokens have the empty text).
    """

    id: int
    text: str
    logprob: float
    watched: Mapping[str, float] = field(default_factory=dict)
    control: str | None = None


@dataclass(frozen=True, slots=True)
class Generated:
    """Tokens that an engine returned, put back into a prompt by id, so that they are not tokenized again."""

    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn for an instruct model; the engine puts it into the model's own chat template."""

    role: Literal["system", "user", "assistant"]
    text: str


Part = Text | Control | Generated | Message
Prompt = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """A greedy completion.

    Generation ends after ``max_tokens`` tokens, at end of sequence, or with the first token named in ``stop``, which is
    the completion's last. ``watch`` names the reflection tokens, ``choices`` the plain words (their first token counts)
    whose log-probability is wanted at every generated position. If the reply names several choices in order, ``answers`` holds
    the set of choices of each; an engine without probabilities constrains the reply to them.
    """

    prompt: Prompt
    max_tokens: int
    stop: frozenset[str] = frozenset()
    watch: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    answers: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """The result of a request. If the end-of-sequence token was generated, it is the last of ``tokens``.

    ``cached_tokens`` of the ``prompt_tokens`` were not computed again. ``exact`` means that every watched log-probability is
    the model's own, none cut off by a top-k. ``stated`` means that the engine reports no probabilities: the choice that the
    model stated has log-probability 0, as has all text, and other choices have none. ``requests`` counts the requests sent.
    """

    tokens: tuple[Token, ...]
    finish: Finish
    prompt_tokens: int
    cached_tokens: int = 0
    exact: bool = True
    stated: bool = False
    requests: int = 1
    completion_tokens: int | None = None
    """Tokens computed, if more than ``tokens``: thinking, the scaffold of JSON."""


OnToken = Callable[[Token], bool]
"""Called on the caller's event loop with each token, in order, as it is generated; False stops the request there (finish
``cancelled``). An engine that works ahead in another thread may have computed a few tokens more; they are dropped."""


class Engine(Protocol):
    """How text is generated. Callers start as many ``complete`` coroutines as they like; the engine batches them.

    ``name`` is what JSON calls the engine, ``model`` what it serves, ``exact`` whether watched probabilities are complete.
    """

    name: str
    model: str
    exact: bool

    async def complete(self, request: Request, on_token: OnToken | None = None) -> Completion: ...

    async def close(self) -> None: ...


# --- retrieval -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Header:
    """``text`` is the header of ``passage[start:end]``: the header row of its table, or the first line of its record. A header
    that starts at 0 is not part of the passage. ``place`` is that of the table or the record, where the format names places."""

    start: int
    end: int
    text: str
    place: str | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk of a document. ``lines`` are 1-based and inclusive; ``page`` is 1-based; ``place`` is its location in the terms of
    its format (``¶12``, ``slide 3``, ``Tariffs!A2:C9``); each is None if the format has none. ``score`` is the fused rank score.

    ``dense`` is the cosine with the question, None where vectors were not searched; ``bm25`` the BM25 score (larger is better),
    None where that side did not find it.
    """

    chunk: str
    title: str
    text: str
    source: str
    lines: tuple[int, int] | None = None
    page: int | None = None
    place: str | None = None
    score: float = 0.0
    dense: float | None = None
    bm25: float | None = None
    headers: tuple[Header, ...] = ()

    def header(self, offset: int = 0) -> str:
        """The headers of the text at ``offset``, outermost first, one per line; empty for most text."""
        return "\n".join(dict.fromkeys(each.text for each in self.headers if each.start <= offset < each.end))

    def where(self, start: int, end: int) -> str | None:
        """The place of ``text[start:end]``: that of the innermost record or table that holds it, from the first to the last row
        of a sheet that it holds, else the passage's."""
        first, last = self._held(start, start + 1), self._held(end - 1, end)
        if first and last and first != last and first.partition("!")[0] == last.partition("!")[0]:
            return f"{first.partition(':')[0]}:{last.rpartition('!')[2].rpartition(':')[2]}"
        return self._held(start, end) or self.place

    def _held(self, start: int, end: int) -> str | None:
        held = [each.place for each in self.headers if each.place and self._begin(each) <= start and end <= each.end]
        return held[-1] if held else None

    def _begin(self, header: Header) -> int:
        """Where the header itself begins, if it stands in the passage."""
        at = self.text.rfind(header.text, 0, header.start)
        return at if at >= 0 and not self.text[at + len(header.text) : header.start].strip() else header.start

    @property
    def read(self) -> str:
        """``text`` as a model reads it: after the header of the table that it begins inside."""
        above = self.header()
        return f"{above}\n{self.text}" if above else self.text


class Retriever(Protocol):
    """Finds passages; ``name`` is the collection's. Best first, at most ``k``, empty when nothing matches.

    ``warnings`` are about searches that returned results in spite of a problem. ``describe`` lists, for a stored run, what the
    passages of a query depend on besides the documents.
    """

    name: str

    @property
    def warnings(self) -> tuple[str, ...]: ...

    def describe(self) -> Mapping[str, object]: ...

    async def search(self, query: str, k: int) -> list[Passage]: ...

    async def close(self) -> None: ...


# --- reflection ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each critique counts in a segment's score; non-negative. ``sequence`` adds the sequence term.

    ``ret`` counts the passage's own score in the search that found it. The paper has no such term: it is for models that judge
    passages less well than the search ranks them.
    """

    rel: float = option(1.0, "Weight of ISREL, relevance.", metavar="X", fitted=True)
    sup: float = option(1.0, "Weight of ISSUP, support.", metavar="X", fitted=True)
    use: float = option(0.5, "Weight of ISUSE, usefulness.", metavar="X", fitted=True)
    sequence: bool = option(True, "Count the mean token probability in scores.")
    ret: float = option(0.0, "Weight of the passage's retrieval score.", metavar="X", fitted=True)


@dataclass(frozen=True, slots=True)
class ConfidenceWeights:
    """The log-odds that an answer is right, as a sum (logistic regression): ``bias``, the log-odds of ISREL and of the utility,
    and the passage's cosine with the question above ``centre``, each with its weight, none negative.

    ``similarity`` is 0 where the embedder is not the one it was fitted with: cosines of other embedders mean something else.
    """

    bias: float = 0.0
    isrel: float = 0.5
    isuse: float = 0.5
    similarity: float = 0.0
    centre: float = 0.0


@dataclass(frozen=True, slots=True)
class Critique:
    """The model's judgement of one segment: ISREL and ISSUP in [0, 1], ISUSE in [-1, 1], the sequence term in [0, 1].

    A group that the segment does not carry counts 0 and is missing from ``distributions``, which maps a group's name to the
    probabilities of its tokens, normalised within the group. ``retrieval`` comes from the search: the score, in [0, 1],
    of the new passage; 0 without one. So does ``similarity``, the cosine of passage and question; None if it is not known.
    """

    isrel: float = 0.0
    issup: float = 0.0
    isuse: float = 0.0
    sequence: float = 0.0
    distributions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    retrieval: float = 0.0
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether evidence is needed: ``probability`` is p(Retrieval) / (p(Retrieval) + p(No Retrieval)), None if not asked for.

    ``action`` is what follows: retrieve passages, continue with the present one, or write without evidence.
    """

    action: Literal["retrieve", "continue", "none"]
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """About a sentence, the passage that it was written from, and its critique.

    ``carry`` says that the passage was already there. ``tokens`` holds the engine's output for it, control tokens included,
    without the Retrieve token that begins the next segment; ``after`` holds the log-probabilities of the Retrieve tokens at
    that position. ``finished`` says that the answer ends here (``after`` is empty then).
    """

    text: str
    passage: Passage | None
    critique: Critique
    carry: bool = False
    tokens: tuple[Token, ...] = ()
    finished: bool = True
    after: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Opening:
    """The model's first judgement of a passage: its ISREL, before any text is generated.

    ``token`` is the first generated token; None if nothing had to be read (no passage, or ``carry``). ``ended`` says that
    the model writes nothing: its first token is the end of the answer.
    """

    passage: Passage | None
    critique: Critique
    carry: bool = False
    token: Token | None = None
    ended: bool = False


Alive = Callable[[Critique, float, str], bool]
"""Called at every token of a segment in generation, with its critique so far, an upper bound of its sequence term, and the
piece of text just written. Returning False stops its generation."""


class Reflector(Protocol):
    """How a model reflects. ``path`` holds the segments written so far, none at the start.

    ``decide`` says what the next segment needs, under a retrieval threshold in [0, 1]. ``open`` reads ISREL of one passage and
    ``extend`` writes the opened segment, or returns None if ``alive`` stopped it. ``passage`` None means to write
    without evidence; ``carry`` means that the path's last passage stays in use; it is neither inserted nor judged again.
    ``judge`` reads ISSUP and ISUSE of a given answer. ``using`` is the same reflector with another engine (one
    that counts tokens, for example). ``describe`` lists, for a stored run, what the judgements depend on besides the model.
    """

    @property
    def kind(self) -> ReflectionKind: ...

    @property
    def engine(self) -> Engine: ...

    def using(self, engine: Engine) -> Reflector: ...

    def describe(self) -> Mapping[str, object]: ...

    async def decide(self, instruction: str, path: Sequence[Segment], threshold: float) -> Decision: ...

    async def open(self, instruction: str, path: Sequence[Segment], passage: Passage | None, carry: bool) -> Opening: ...

    async def extend(self, instruction: str, path: Sequence[Segment], opening: Opening, alive: Alive) -> Segment | None: ...

    async def judge(self, instruction: str, passage: Passage, answer: str) -> Critique: ...


# --- the search and its answer -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How to search. Defaults are the paper's; thresholds of abstention are fitted per model, 0 never abstains.

    ``correct`` and ``found_isrel`` are corrective retrieval (CRAG), ``reconsider_isuse`` is a second look at the passages,
    ``join_isuse`` answers from several of them; the paper has none of these.
    """

    k: int = option(5, "Passages retrieved per segment.", metavar="N", low=1, flags=("-k", "--k"))
    mode: Mode = option("adaptive", "When to retrieve.")
    threshold: float = option(0.2, "Retrieve when the model's probability is above T.", metavar="T", high=1, fitted=True)
    beam_width: int = option(2, "Hypotheses kept after each segment.", metavar="B", low=1)
    max_segments: int = option(4, "Maximum segments of an answer; 1 is the short form.", metavar="N", low=1)
    weights: Weights = Weights()
    require_support: Support | None = option(None, "Drop segments whose most likely ISSUP is below this.")
    prune: bool = option(True, "Skip candidates that cannot win; the answer is the same.")
    abstain_isrel: float = option(0.0, "Abstain when relevance is below P.", metavar="P", high=1, fitted=True)
    abstain_issup: float = option(0.0, "Abstain when support is below P.", metavar="P", high=1, fitted=True)
    abstain_isuse: float = option(
        -1.0, "Abstain when usefulness, from -1 to 1, is below X.", metavar="X", low=-1, high=1, fitted=True
    )
    abstain_confidence: float = option(
        0.0, "Abstain when the answer is right with less than probability P.", metavar="P", high=1, fitted=True
    )
    reconsider_isuse: float = option(
        -1.0,
        "Also judge sentences of the relevant passages if usefulness is below X.",
        metavar="X",
        low=-1,
        high=1,
        fitted=True,
    )
    join_isuse: float = option(
        1.0,
        "Answer open questions from several passages: add sentences with usefulness above X.",
        metavar="X",
        low=-1,
        high=1,
        fitted=True,
    )
    choices: tuple[str, ...] = ()
    correct: bool = option(False, "Search again with other queries, at most twice, if nothing relevant was found.")
    found_isrel: float = option(0.5, "Search again while the best ISREL is below P.", metavar="P", high=1, fitted=True)
    confidence: ConfidenceWeights = ConfidenceWeights()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens computed by the engine, and the number of requests. ``cached_tokens`` of the prompt were reused from the cache."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall time in milliseconds; ``retrieve`` and ``generate`` overlap when paths are worked on at once."""

    retrieve: float = 0.0
    generate: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Cited:
    """A segment of an answer with its score and the number of its citation, None if it was written without evidence."""

    segment: Segment
    citation: int | None
    score: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a search. ``status`` is "answered" or "abstained"; "error" stands only in the rows of a batch.

    ``text`` joins the segments as the model wrote them; it is empty when the program abstains. ``evidence`` are the cited
    passages in order of their numbers (1, 2, …); when the program abstains, the nearest passages all the same. ``decision`` is
    the first segment's. ``expanded`` candidates were written to the end, ``pruned`` were not. ``exact`` says that no probability
    was cut off by a top-k. ``collection`` names the retriever, empty without one. ``score`` is the mean of the segments'
    scores: it ranks the candidates of one question, and compares with nothing else. ``confidence`` is the probability, in [0, 1],
    that the answer is right; None without evidence.
    """

    question: str
    status: Status
    text: str
    segments: tuple[Cited, ...]
    evidence: tuple[Passage, ...]
    options: SearchOptions
    decision: Decision
    expanded: int
    pruned: int
    exact: bool
    reflection: ReflectionKind
    model: str
    engine: str
    collection: str
    usage: Usage
    timing: Timing
    score: float = 0.0
    confidence: float | None = None
    warnings: tuple[str, ...] = ()


# --- observers -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to segment number ``step`` of path ``path`` (an id; 0 is the empty path)."""

    step: int
    path: int


@dataclass(frozen=True, slots=True)
class Decided(Step):
    """The segment needs evidence, or does not."""

    decision: Decision


@dataclass(frozen=True, slots=True)
class Retrieved(Step):
    """The passages found for ``query``, best first; empty if nothing matches. In step 0 a path other than 0 is the root of a
    search for one side of a question with two; its candidates may be joined to the answer.
    """

    query: str
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Opened(Step):
    """Candidate ``candidate``, a child of ``path``, was read: its ISREL is known."""

    candidate: int
    passage: Passage | None
    critique: Critique


@dataclass(frozen=True, slots=True)
class Corrected(Step):
    """Round ``number`` (from 1) of corrective retrieval: ``best`` is the best ISREL read so far, ``standing`` its grade.

    ``passages`` holds the results for ``query`` that had not been read yet; ``collection`` names what was searched.
    """

    number: int
    standing: Standing
    best: float
    query: str
    passages: tuple[Passage, ...]
    collection: str


@dataclass(frozen=True, slots=True)
class Reconsidered(Step):
    """The best first segment is of little use (``isuse``), so that sentences of the relevant passages are judged as candidates.

    ``sentences`` were judged; of each passage the best becomes a candidate.
    """

    isuse: float
    sentences: int


@dataclass(frozen=True, slots=True)
class Joined(Step):
    """The first segments of ``candidates`` are added to the answer ``path``, in this order."""

    candidates: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wrote:
    """A candidate's next piece of text, as it is generated."""

    candidate: int
    text: str


@dataclass(frozen=True, slots=True)
class Expanded(Step):
    """Candidate ``candidate`` was written to the end; ``score`` is its path's."""

    candidate: int
    segment: Segment
    score: float


@dataclass(frozen=True, slots=True)
class Pruned(Step):
    """A candidate was given up: its ``bound`` is strictly below the score ``needed``, it violates the support constraint, or its
    passage is so irrelevant that the search would abstain from an answer that begins with it."""

    candidate: int
    passage: Passage | None
    when: Literal["before writing", "while writing", "unsupported", "irrelevant"]
    bound: float | None = None
    needed: float | None = None


@dataclass(frozen=True, slots=True)
class Selected:
    """The paths kept after a step, best first; the last of these events names only the answer."""

    step: int
    paths: tuple[int, ...]
    scores: tuple[float, ...]


Event = Decided | Retrieved | Corrected | Opened | Wrote | Expanded | Reconsidered | Pruned | Selected | Joined
Observer = Callable[[Event], None]
