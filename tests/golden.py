"""Rescores recorded model outputs and compares every score with the recorded one, bit for bit.

    python tests/golden.py FILE

FILE is JSON with ``ids`` (control token to id) and ``cases``: per case ``use_seqscore``, the weights ``w`` (rel, sup, use), the
outputs ``outs`` (token ids, log-probabilities by id at each position, their cumulative sum ``cum``), the expected ``scores``
and the text of the ``best`` output. Exits 1 at the first difference, 2 if FILE cannot be read.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from selfrag.algorithm import reflection
from selfrag.types import Token, Weights


def tokens_of(out: dict[str, Any], names: dict[int, str]) -> list[Token]:
    tokens = []
    for token_id, logprobs in zip(out["token_ids"], out["logprobs"], strict=True):
        watched = {names[int(i)]: value for i, value in logprobs.items() if int(i) in names}
        control = names.get(token_id)
        tokens.append(Token(token_id, "", logprobs.get(str(token_id), reflection.ABSENT), watched, control))
    return tokens


def rescore(out: dict[str, Any], names: dict[int, str], weights: Weights) -> float:
    tokens = tokens_of(out, names)
    # The reference always takes ISREL from the first position, and the engine's own cumulative log-probability.
    critique = reflection.critique(tokens)
    rel = reflection.isrel(tokens[0].watched)
    sequence = reflection.sequence_term(out["cum"], len(tokens))
    return reflection.segment_score(replace(critique, isrel=rel, sequence=sequence), weights)


def main(path: str) -> int:
    try:
        golden = json.loads(Path(path).read_text(encoding="utf-8"))
        names = {number: name for name, number in golden["ids"].items() if name in reflection.REFLECTION_TOKENS}
        cases = golden["cases"]
    except (OSError, ValueError, KeyError) as error:
        print(f"cannot read {path}: {error}", file=sys.stderr)
        return 2
    for number, case in enumerate(cases):
        rel, sup, use = case["w"]
        weights = Weights(rel, sup, use, sequence=case["use_seqscore"])
        scores = [rescore(out, names, weights) for out in case["outs"]]
        for index, (mine, expected) in enumerate(zip(scores, case["scores"], strict=True)):
            if mine != expected:
                print(f"case {number}, output {index}: {mine!r}, expected {expected!r}")
                return 1
        best = case["outs"][max(range(len(scores)), key=scores.__getitem__)]["text"]
        if best != case["best"]:
            print(f"case {number}: best is {best!r}, expected {case['best']!r}")
            return 1
    print(f"{len(cases)} cases, {sum(len(case['outs']) for case in cases)} scores: all equal")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1]))
