"""Training a re-ranker: its questions and passages, what a step changes, and that the file scores like what was trained."""

from __future__ import annotations

import gzip
import json
import threading
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from selfrag.errors import InputError, ModelError
from selfrag.index.embedders.minilm import embedded_folder
from selfrag.index.rerankers import open_reranker
from selfrag.train import reranker_pairs
from selfrag.train.reranker import CrossEncoder, Pairs, Plan, Progress, package, shown, train
from selfrag.train.reranker_pairs import Example, examples

SOURCES = {"Rhine": "the Alps", "Danube": "Germany", "Nile": "Burundi", "Volga": "Russia", "Po": "Italy", "Ebro": "Spain"}
RIVERS = [(name, f"The {name} is a river that rises in {where} and flows into the sea.") for name, where in SOURCES.items()]
EXAMPLES = [
    Example("test", f"Where does the {name} rise?", (name, text), tuple(other for other in RIVERS if other[0] != name))
    for name, text in RIVERS
]
PAIRS = [(example.question, shown(text)) for example in EXAMPLES[:2] for text in RIVERS]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with one group of one file, and open questions over the rivers."""
    monkeypatch.setattr(reranker_pairs, "GROUPS", {"rivers": ("rivers",)})
    monkeypatch.setattr(reranker_pairs, "_code", lambda _: iter(()))
    rows = [{"question": e.question, "title": e.positive[0], "passage": e.positive[1], "answers": [SOURCES[e.positive[0]]]}
            for e in EXAMPLES]  # fmt: skip
    write(tmp_path / "train" / "rivers.jsonl.gz", rows)
    asked = [{"question": "which river rises in burundi", "answer": ["Burundi"]}, {"question": "held out", "answer": ["Burundi"]}]
    write(tmp_path / "train" / "nq_open_questions.jsonl.gz", asked)
    write(tmp_path / "train" / "efficientqa_rated_answers.jsonl.gz", [])
    write(tmp_path / "corpora" / "wikipedia_vital_10k.jsonl.gz", [{"title": title, "text": text} for title, text in RIVERS])
    write(tmp_path / "dev" / "nq_wikipedia_vital.jsonl.gz", [{"question": "held out"}])
    return tmp_path


def test_negatives_are_other_passages_without_the_answer(data: Path) -> None:
    """Every question has its own passage and at least four others, none of which holds its answer."""
    found = [example for example in examples(data, Random(0)) if example.source == "rivers"]
    assert {example.question for example in found} == {example.question for example in EXAMPLES}
    for example in found:
        assert example.positive in RIVERS
        assert len(set(example.negatives)) >= 4
        assert example.positive not in example.negatives


def test_an_open_question_takes_the_summary_that_holds_its_answer(data: Path) -> None:
    """A question without a passage is paired by its answer; one of the development file is not."""
    (found,) = [example for example in examples(data, Random(0)) if example.source == "nq_open_questions"]
    assert (found.question, found.positive[0]) == ("which river rises in burundi", "Nile")


def test_a_folder_without_the_data_is_refused(tmp_path: Path) -> None:
    """The error names the file that is missing and the folder that is wanted."""
    with pytest.raises(InputError, match="nq_gold_sentences") as refused:
        examples(tmp_path, Random(0))
    assert "train/" in str(refused.value.hint)


def test_code_is_asked_for_by_name_or_by_what_it_does() -> None:
    """Definitions of the standard library come with other code as negatives, never with their own lines."""
    found = list(reranker_pairs._code(Random(0), 5))
    assert found
    for example in found:
        assert "def " in example.positive[1] or "class " in example.positive[1]
        own = set(example.positive[1].splitlines()[3:6])
        assert all(len(own & set(text.splitlines())) < 2 for _, text in example.negatives)


def test_what_is_written_scores_like_what_was_trained(tmp_path: Path) -> None:
    """Rounded to 8 bits and run by onnxruntime, the scores follow those of torch; another file is refused."""
    model = CrossEncoder(embedded_folder()).eval()
    torch.nn.init.normal_(model.first.weight, std=0.05)
    package(dict(model.named_parameters()), tmp_path / "r.safetensors")
    with torch.no_grad():
        trained = model(*Pairs(embedded_folder(), 112).batch(PAIRS)).numpy()
    reranker = open_reranker(str(tmp_path / "r.safetensors"))
    assert reranker is not None
    groups = [(EXAMPLES[at].question, [text for _, text in PAIRS[at * 6 : at * 6 + 6]]) for at in (0, 1)]
    written = np.concatenate([reranker.scores(question, texts) for question, texts in groups])
    assert np.corrcoef(trained, written)[0, 1] > 0.95
    assert reranker.scores("?" * 1000, ["", "word " * 1000]).shape == (2,)
    (tmp_path / "r.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot be loaded"):
        open_reranker(str(tmp_path / "r.safetensors"))


def test_training_teaches_the_upper_layers_and_ends_when_told(tmp_path: Path) -> None:
    """A few steps change the upper layers; the file holds the upper layers alone; a stopped run has its file."""
    seen: list[Progress] = []
    plan = Plan(minutes=0.25, questions=2, tokens=32, warmup=0.01)
    train(embedded_folder(), EXAMPLES, tmp_path / "a.safetensors", plan, seen.append)
    assert seen[-1].step >= 2
    assert np.isfinite(seen[-1].loss)
    written = load_file(tmp_path / "a.safetensors")
    assert {name.split(".")[1] for name in written if name.startswith("layer.")} == {"2", "3", "4", "5"}
    stop = threading.Event()
    stop.set()
    train(embedded_folder(), EXAMPLES, tmp_path / "b.safetensors", plan, seen.append, stop)
    changed = load_file(tmp_path / "b.safetensors")["layer.5.output.bias"] != written["layer.5.output.bias"]
    assert changed.any()
