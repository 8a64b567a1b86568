"""Does contrastive training make the bundled embedder better? Trains it, and measures dense and fused recall beside it.

    python benchmarks/finetuned_embedder.py train DATA --out FOLDER [--minutes 35]
    python benchmarks/finetuned_embedder.py measure DATA --work WORK [--tuned FOLDER] [--sets wikipedia code]

DATA is the folder with corpora/, dev/ and train/; WORK is that of benchmarks/retrieval.py, which indexes the collections.
Training takes the questions, passages and BM25 hard negatives of `selfrag train reranker`. The loss is the cross entropy of a
question's passage among all passages of the batch, each with a hard negative, at 384, 192 and 96 dimensions (Matryoshka,
Kusupati et al. 2022). FOLDER is written every few minutes, as the embedder reads it. Measured is what the program would
run, 8-bit matrices and all: the embedder as it is, trained, and the mean of both weights (Wortsman et al. 2022), whole and cut to
192 dimensions.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import harness
import numpy as np
import torch
from numpy.typing import NDArray
from retrieval import NAMES, SETS, gain, indexed, one, scored
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import BertModel

from selfrag.evaluation.tables import markdown_table
from selfrag.index.embedders.minilm import MiniLMEmbedder, embedded_folder
from selfrag.index.search.hybrid import Question, fuse
from selfrag.train.reranker import embedder_body, masked_mean, shown
from selfrag.train.reranker_pairs import Example, examples

DIMENSIONS = (384, 192, 96)
SCALE = 20.0
"""What cosines are multiplied with; all-MiniLM-L6-v2 was trained with 20, too."""
BATCH = 24
TOKENS = 112
RATE = 2e-5
SAVE, REPORT = 240.0, 30.0


def load(folder: Path) -> BertModel:
    """The embedder's layers in float32, without dropout. Raises ValueError if its vectors are not those of the 8-bit one."""
    model = embedder_body(folder)
    texts = ["Where do penguins live?", "Penguins live almost exclusively in the Southern Hemisphere. " * 8]
    with torch.no_grad():
        ours = embed(model, Batches(folder, 256), texts).numpy()
    likeness = (ours * MiniLMEmbedder(folder, threads=1).documents(texts)).sum(axis=1)
    if likeness.min() < 0.98:
        raise ValueError(f"{folder}: cosine to the program's vectors {likeness}")
    return model


class Batches:
    """Texts as padded tokens and their mask."""

    def __init__(self, folder: Path, tokens: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_padding()
        self._tokenizer.enable_truncation(tokens)

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        encoded = self._tokenizer.encode_batch(list(texts))
        return torch.tensor([each.ids for each in encoded]), torch.tensor([each.attention_mask for each in encoded])


def embed(model: BertModel, batches: Batches, texts: Sequence[str]) -> Tensor:
    """Unit vectors, the mean of the last layer."""
    ids, mask = batches(texts)
    hidden = model(ids, attention_mask=mask).last_hidden_state
    return functional.normalize(masked_mean(hidden, mask), dim=-1)


def loss_of(questions: Tensor, passages: Tensor) -> Tensor:
    """``passages`` begin with those that answer ``questions``, in order; the mean over the dimensions."""
    wanted = torch.arange(len(questions))
    losses = []
    for count in DIMENSIONS:
        cosines = functional.normalize(questions[:, :count], dim=-1) @ functional.normalize(passages[:, :count], dim=-1).T
        losses.append(functional.cross_entropy(SCALE * cosines, wanted))
    return torch.stack(losses).mean()


def drawn(found: list[Example], rng: Random) -> Iterator[tuple[list[str], list[str]]]:
    """Batches of questions, and of their passages followed by a hard negative of each; no passage answers two of a batch."""
    while True:
        rng.shuffle(found)
        for start in range(0, len(found) - BATCH + 1, BATCH):
            unique = {each.positive[1]: each for each in found[start : start + BATCH]}.values()
            titled = rng.random() < 0.7
            texts = [each.positive for each in unique] + [rng.choice(each.negatives[:8]) for each in unique]
            yield [each.question[:400] for each in unique], [shown(text) if titled else text[1] for text in texts]


def train(data: Path, out: Path, minutes: float, bfloat16: bool) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rng, folder = Random(0), embedded_folder()
    model, batches = load(folder), Batches(folder, TOKENS)
    for value in model.embeddings.parameters():
        value.requires_grad_(False)
    found = examples(data, rng)
    print(f"{len(found)} questions", flush=True)
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.01)
    begun = saved = reported = time.monotonic()
    mean, step = 0.0, 0
    for questions, passages in drawn(found, rng):
        done = (time.monotonic() - begun) / (60 * minutes)
        if done >= 1:
            break
        optimizer.param_groups[0]["lr"] = RATE * min(1.0, done / 0.05) * (1 - done)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = loss_of(embed(model, batches, questions), embed(model, batches, passages))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        step, mean = step + 1, 0.98 * mean + 0.02 * loss.item()
        now = time.monotonic()
        if now - reported > REPORT:
            reported = now
            print(f"step {step}, {(now - begun) / 60:.1f} min, loss {mean / (1 - 0.98**step):.4f}", flush=True)
        if now - saved > SAVE:
            saved = now
            write(model.state_dict(), out)
    write(model.state_dict(), out)
    print(f"{step} steps of {BATCH} questions, loss {mean / (1 - 0.98 ** max(step, 1)):.4f}", flush=True)


def write(weights: dict[str, Tensor], out: Path) -> None:
    """A folder as `MiniLMEmbedder` reads it."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "config.json"):
        shutil.copy(embedded_folder() / name, out)
    save_file({name: value.contiguous() for name, value in weights.items()}, out / "model.safetensors")


# --- measuring -----------------------------------------------------------------------------------------------------------------


def mean_of(one: Path, other: Path, out: Path) -> Path:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    write({name: (value + first[name]) / 2 for name, value in second.items() if value.is_floating_point()}, out)
    return out


def cut(vectors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    short = vectors[:, :count]
    return np.asarray(short / np.linalg.norm(short, axis=1, keepdims=True), dtype=np.float32)


def measured(name: str, embedders: dict[str, MiniLMEmbedder], data: Path, work: Path) -> str:
    """A table: every embedder and dimension, alone and with BM25. The first embedder's vectors are those of the collection."""
    corpus, key = one(name, data)
    collection, numbers = indexed(corpus, key, "none" if name == "code" else "headings", work)
    searcher = collection._current()
    with searcher.mirror.reading(), searcher.catalog.transaction() as db:
        query = (
            "SELECT key, path, title, text, vector FROM chunks JOIN sources ON sources.id = source"
            " JOIN embeddings ON embeddings.hash = embedding"
        )
        rows = db.execute(query).fetchall()
        words = [searcher._bm25(Question(question, 20), None) for question in corpus.questions]
    keys = [row[0] for row in rows]
    documents = [numbers[row[1]] for row in rows]
    at_key = dict(zip(keys, documents, strict=True))
    texts = [f"{title}\n{text}" if title and name != "code" else text for _, _, title, text, _ in rows]
    stored = np.array([np.frombuffer(row[4], np.float32) for row in rows])
    values: dict[str, NDArray[np.float64]] = {}
    for label, embedder in embedders.items():
        passages = embedder.documents(texts) if values else stored
        questions = embedder.queries(list(corpus.questions))
        for count in (384, 192):
            cosines = cut(questions, count) @ cut(passages, count).T
            dense, fused = [], []
            for row, points, gold in zip(cosines, words, corpus.gold, strict=True):
                order = np.argsort(-row, kind="stable")[: searcher.fusion.depth]
                near = [(keys[at], float(row[at])) for at in order]
                dense.append(scored(list(dict.fromkeys(documents[at] for at in order[:40])), gold, False))
                scores = fuse(searcher.fusion, near, points)
                best = sorted(scores, key=lambda key, scores=scores: (-scores[key], key))[:40]  # type: ignore[misc]
                fused.append(scored(list(dict.fromkeys(at_key[each] for each in best)), gold, False))
            shown_as = label if count == 384 else f"{label}, {count} dimensions"
            values[f"{shown_as}: dense"], values[f"{shown_as}: fused"] = np.array(dense), np.array(fused)
    first = next(iter(embedders))
    lines = []
    for label, each in values.items():
        halves = [" / ".join(f"{value:.1f}" for value in each[half::2].mean(axis=0)) for half in (0, 1)]
        base = values[f"{first}: {label.rpartition(': ')[2]}"]
        lines.append([label, *halves, "" if base is each else f"{gain(base, each, 1)}, {gain(base, each, 3)}"])
    head = ["embedder: search", "even half: @1 / @5 / @10 / MRR", "odd half", "odd half, against bundled: @5, MRR"]
    return f"{NAMES[name]}, {len(corpus.questions)} questions:\n\n{markdown_table(head, lines)}"


def measure(data: Path, work: Path, tuned: Path | None, sets: Sequence[str]) -> None:
    bundled = embedded_folder()
    with tempfile.TemporaryDirectory() as folder:
        folders = {"bundled": bundled}
        if tuned:
            folders |= {"trained": tuned, "mean of both": mean_of(bundled, tuned, Path(folder))}
        embedders = {label: MiniLMEmbedder(each, threads=1) for label, each in folders.items()}
    for name in sets:
        print(measured(name, embedders, data, work), end="\n\n", flush=True)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("do", choices=("train", "measure"))
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, help="train: where the embedder is written")
    parser.add_argument("--minutes", type=float, default=35.0)
    parser.add_argument(
        "--bfloat16", action="store_true", help="train: quicker on processors with AVX-512 BF16, slower on others"
    )
    parser.add_argument("--work", type=Path, help="measure: the folder of benchmarks/retrieval.py")
    parser.add_argument("--tuned", type=Path, help="measure: the embedder that was written")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=("wikipedia", "code"))
    given = parser.parse_args()
    if given.do == "train":
        train(given.data, given.out, given.minutes, given.bfloat16)
    else:
        measure(given.data, given.work.resolve(), given.tuned, given.sets)


if __name__ == "__main__":
    main()
