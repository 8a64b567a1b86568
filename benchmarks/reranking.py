"""Measures what a model adds to retrieval: HyDE, and the reflection model's own ISREL as a re-ranker of the first 20 passages.

    python benchmarks/reranking.py DATA --work FOLDER --model REFLECTION_MODEL [--hyde INSTRUCT_MODEL] [--questions 60]
        [--corpus wikipedia|squad]

The work folder is that of benchmarks/retrieval.py, which indexes the collection. Every method answers the same questions, a
fixed random sample of those with odd numbers, on which nothing was chosen.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import harness
import numpy as np
from corpus import first_ranks, intervals, measures, squad, wikipedia
from retrieval import indexed

from selfrag import prompts
from selfrag.engines import open_engine
from selfrag.index.collection import Collection
from selfrag.index.search.hybrid import Hit, Question
from selfrag.index.search.hyde import Hyde
from selfrag.reflectors.tokens import TokenReflector

FIRST = 20
Hits = list[list[Hit]]


async def with_isrel(hits: Hits, questions: list[str], model: str, dtype: str) -> dict[str, Hits]:
    """The same passages by ISREL alone, and by the sum of reciprocal ranks of both orders."""
    engine = open_engine("transformers", model, dtype=dtype)
    reflector = TokenReflector(engine)
    by_isrel: Hits = []
    by_both: Hits = []
    for question, found in zip(questions, hits, strict=True):
        openings = await asyncio.gather(*(reflector.open(question, (), hit.passage, False) for hit in found))
        scores = [opening.critique.isrel for opening in openings]
        order = sorted(range(len(found)), key=lambda at: -scores[at])
        by_isrel.append([found[at] for at in order])
        place = {at: rank for rank, at in enumerate(order)}
        by_both.append([found[at] for at in sorted(order, key=lambda at: -(1 / (10 + at) + 1 / (10 + place[at])))])
    await engine.close()
    return {"ISREL over the first 20": by_isrel, "fused rank and ISREL, first 20": by_both}


async def with_hyde(collection: Collection, questions: list[str], model: str, dtype: str) -> Hits:
    engine = open_engine("transformers", model, dtype=dtype, reflection="prompted")
    hyde = Hyde(model, engine, prompts.load("hyde").render)
    written = await asyncio.gather(*(hyde.write(question) for question in questions))
    await engine.close()
    return collection.find_now([Question(q, FIRST, hypotheses=said) for q, said in zip(questions, written, strict=True)])


async def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--hyde")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--corpus", choices=("wikipedia", "squad"), default="wikipedia")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    corpus = {"wikipedia": wikipedia, "squad": squad}[options.corpus](options.data)
    odd = range(1, len(corpus.questions), 2)
    sample = sorted(random.Random(0).sample(odd, min(options.questions, len(odd))))
    questions, gold = [corpus.questions[at] for at in sample], tuple(corpus.gold[at] for at in sample)
    collection, documents = indexed(corpus, options.corpus, "headings", options.work)
    hits = collection.find_now([Question(question, FIRST) for question in questions])
    methods, seconds = {"as shipped": hits}, {"as shipped": 0.0}
    begun = time.perf_counter()
    methods |= await with_isrel(hits, questions, options.model, options.dtype)
    seconds["ISREL over the first 20"] = time.perf_counter() - begun
    if options.hyde:
        begun = time.perf_counter()
        methods["HyDE"] = await with_hyde(collection, questions, options.hyde, options.dtype)
        seconds["HyDE"] = time.perf_counter() - begun
    report = []
    for name, found in methods.items():
        ranks = first_ranks([list(dict.fromkeys(documents[hit.passage.source] for hit in row)) for row in found], gold)
        limits = intervals(ranks)
        cells = {key: [round(value, 1), *np.round(limits[key], 1).tolist()] for key, value in measures(ranks).items()}
        report.append({"method": name, "questions": len(sample), "seconds": round(seconds.get(name, 0.0), 1), **cells})
        print(report[-1], flush=True)
    if options.out:
        harness.write_json(options.out, report)


if __name__ == "__main__":
    asyncio.run(main())
