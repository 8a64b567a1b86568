"""Training and inference put the same ids before a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest
import torch
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from selfrag.algorithm.reflection import CONTINUE, FULLY, RELEVANT
from selfrag.engines.tokenizer import PromptTokenizer
from selfrag.reflectors.tokens import TokenReflector
from selfrag.train import sentence_sources, sources
from selfrag.train.hard_negatives import HardNegatives
from selfrag.train.lora import load
from selfrag.train.rows import Example, control, evidence, packed, prompt, text
from selfrag.train.synthetic import instructions
from selfrag.train.tensors import GROUPS, encode
from selfrag.train.user_data import own_rows
from selfrag.types import Completion, OnToken, Passage, Request, Token

EVERY = dict.fromkeys(GROUPS, 1.0)
KOREA = (
    "Seoul is the capital of South Korea. It lies on the Han River. Busan is the second largest city of South Korea. [Relevant]"
)
OTHER = "Milan is a town in Italy. Many who know it go there for its clothes."
NEAR = HardNegatives([("Korea", KOREA), ("Milan", OTHER)])
SQUAD = {"id": "1", "title": "Korea", "context": KOREA, "question": "What is the capital?"}


def examples() -> Mapping[str, list[Example]]:
    """Examples of every kind that is taught."""
    (answerable,) = sources.squad([SQUAD | {"answers": [{"text": "Seoul", "start": 0}]}])
    (impossible,) = sources.squad([SQUAD | {"answers": [], "plausible_answers": ["Busan"]}])
    gold = ["Seoul is the capital of South Korea.", "It lies on the Han River."]
    faq = {
        "id": "f",
        "title": "Korea",
        "passage": KOREA,
        "question": "Where is it?",
        "sentence_answers": gold,
        "negatives": [OTHER],
    }
    page = "ls\\nList files.\\n- List all:\\n`ls -a`\\n- List by size:\\n`ls -S`".replace("\\n", "\n")
    how = {"id": "t", "title": "ls", "passage": page, "question": "How do I list all files?",
           "sentence_answers": ["- List all:\n`ls -a`"], "long_answer": "To list all, run `ls -a`.", "negatives": []}  # fmt: skip
    claims = [
        {"page": "Seoul", "evidence": KOREA, "claim": c, "label": v} for c, v in (("It is big.", "SUPPORTS"), ("No.", "REFUTES"))
    ]
    judged = {"title": "Seoul", "passage": KOREA, "claim": "Seoul is big.", "label": "not_supported"}
    own = {"question": "Where?", "title": "Korea", "passage": KOREA, "answer": "in Asia", "support": "partial"}
    published = {
        "instruction": "Say.",
        "input": "this",
        "output": "[Retrieval]<paragraph>A\nb</paragraph>[Relevant]One.[Utility:4]</s>",
    }
    (asked,) = sentence_sources.answered([faq], "f")
    return {
        "question": [sources.question_row(q, Random(1)) for q in (answerable, impossible)],
        "contrastive": [row for s in range(9) if (row := sources.contrastive_row(answerable, NEAR, Random(s)))],
        "explain": [row for s in range(9) if (row := sources.explain_row(answerable, NEAR, Random(s)))],
        "sentence": [sentence_sources.sentence_row(asked, NEAR, Random(s)) for s in range(9)],
        "how to": [row for a in sentence_sources.howto([how]) if (row := sentence_sources.howto_row(a, NEAR, Random(2)))],
        "claims": [*sources.vitaminc(claims, Random(3)), *sentence_sources.claim_rows([judged], "c", ("What?",), Random(1))],
        "no retrieval": list(instructions([("Korea", "Seoul is the capital of South Korea.")], 8, Random(5))),
        "own": list(own_rows([own, published], Path("own.jsonl"))),
    }  # fmt: skip


def with_begin(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tokenizer with ``<s>`` before every text, as Llama's has it."""
    begin = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", begin)]
    )
    return tokenizer


@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("kind", list(examples()))
def test_a_branch_has_the_ids_of_the_prompt_that_inference_sends(base: Path, kind: str, begins: bool) -> None:
    """For every branch of every kind of example, the ids from the root to its end are those of the same parts as a prompt, with a
    tokenizer that begins every text with a token of its own too."""
    _, tokenizer = load(base, torch.float32)
    prompt_tokenizer = PromptTokenizer(with_begin(tokenizer) if begins else tokenizer)
    assert len(prompt_tokenizer.begin) == begins
    found = examples()[kind]
    assert found
    for example in found:
        encoded = encode(example, prompt_tokenizer, EVERY, 5000)
        assert encoded is not None
        for index in range(len(example.branches)):
            chain = [index]
            while (parent := example.branches[chain[0]].parent) >= 0:
                chain.insert(0, parent)
            parts = [p.part for b in chain for p in example.branches[b].parts]
            said = prompt_tokenizer.encode(tuple(part for part in parts if part is not None))
            ids = [int(i) for b in chain for i in encoded.ids[encoded.branch == b]]
            assert ids == said + [prompt_tokenizer.end] * (parts[-1] is None)


class Recorder:
    """An engine that says `[Relevant]` and a sentence, fully supported, to go on with; it keeps what it was sent."""

    name, model, exact = "recorder", "none", True

    def __init__(self, prompt_tokenizer: PromptTokenizer) -> None:
        self.prompt_tokenizer = prompt_tokenizer
        self.prompts: list[list[int]] = []

    async def complete(self, request: Request, on_token: OnToken | None = None) -> Completion:
        self.prompts.append(self.prompt_tokenizer.encode(request.prompt))
        if request.max_tokens == 1:
            return Completion((self.said(RELEVANT, request),), "length", 1)
        words = [Token(i, "", -0.1) for i in self.prompt_tokenizer.text_ids("Seoul.")]
        tokens = (*words, self.said(FULLY, request), self.said(CONTINUE, request))
        for token in tokens if on_token else ():
            on_token(token)
        return Completion(tokens, "stop", 1)

    def said(self, name: str, request: Request) -> Token:
        watched = {token: 0.0 if token == name else -5.0 for token in request.watch}
        return Token(self.prompt_tokenizer.control[name], "", -0.1, watched, name)

    async def close(self) -> None: ...


@pytest.mark.parametrize("begins", [False, True])
async def test_the_reflector_sends_what_was_trained(base: Path, begins: bool) -> None:
    """Asked to open a passage, to write, to go on and to judge, the reflector sends the ids that an example has up to there."""
    _, tokenizer = load(base, torch.float32)
    prompt_tokenizer = PromptTokenizer(with_begin(tokenizer) if begins else tokenizer)
    engine = Recorder(prompt_tokenizer)
    reflector, passage = TokenReflector(engine), Passage("1", "Korea", KOREA, "korea.md")
    segment = None
    for path in ([], [0]):
        before = [segment] if path and segment else []
        opening = await reflector.open("Where?", before, passage, carry=bool(path))
        segment = await reflector.extend("Where?", before, opening, lambda _c, _s, _t: True)
        assert segment is not None
    await reflector.judge("Where?", passage, "Seoul.")
    root = (prompt("Where?"), *evidence("Korea", KOREA))
    responses = [(control(RELEVANT), text("Seoul.", 1.0), control(FULLY), control(CONTINUE))]
    encoded = encode(packed("a", "test", root, responses), prompt_tokenizer, EVERY, 5000)
    assert encoded is not None
    ids, size = encoded.ids.tolist(), int((encoded.branch == 0).sum())
    words = len(prompt_tokenizer.text_ids("Seoul."))
    assert engine.prompts == [
        ids[:size], ids[: size + 1], ids, ids[: size + 1 + words], ids[: size + 2 + words]
    ]  # fmt: skip
