"""`selfrag train`: prepare rows, train a reflection model, measure it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfrag.cli import terminal
from selfrag.cli.options import Json, Quiet, group

if TYPE_CHECKING:
    from collections import Counter

    from selfrag.train.evaluate import Result
    from selfrag.types import Reflector

BASE = "smollm2-135m-instruct"


TRAIN = """Train a reflection model: prepare rows, run, merge, eval; or a re-ranker.

\b
Examples:
  selfrag train prepare data/train -o rows.jsonl
  selfrag train run rows.jsonl -o runs/first --minutes 60
  selfrag train merge runs/first/adapter -o runs/first/merged
  selfrag train eval smollm2-135m-selfrag --data data/dev
  selfrag train reranker data -o reranker.safetensors
"""


def prepare(
    data: Annotated[
        list[Path], typer.Argument(metavar="DATA...", help="Folder of the published data sets, or files of your own rows.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Output file of the rows, JSONL.")],
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed.")] = 1,
    everything: Annotated[bool, typer.Option("--all", help="All the data, not the mix of the packaged model.")] = False,
    limit: Annotated[
        list[str] | None, typer.Option(metavar="SOURCE=N", help="At most N rows of a source; may be repeated.")
    ] = None,
    without: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Leave out the questions of this JSONL file; may be repeated.")
    ] = None,
    judging: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Make rows that teach MODEL to judge its own answers to the questions."),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Turn labelled data into training rows, and print how often each source teaches each token.

    A file has the published format (instruction, output, input, id, dataset_name), or your own labelled questions: question,
    passage, title, answer, and if known relevant (true or false), support (full, partial, none) and utility (1 to 5).

    \b
    Examples:
      selfrag train prepare data/train -o rows.jsonl
      selfrag train prepare data/train -o all.jsonl --all --limit vitaminc=8000
      selfrag train prepare data/train -o rows.jsonl --without data/dev/nq_wikipedia_vital.jsonl
      selfrag train prepare my_questions.jsonl -o mine.jsonl
      selfrag train prepare data/train -o own.jsonl --judging smollm2-135m-selfrag
    """
    from selfrag.train import own_answers
    from selfrag.train.prepare import EVERYTHING, LIMITS, PrepareConfig, limits_of
    from selfrag.train.prepare import prepare as make

    mix = own_answers.LIMITS if judging else LIMITS
    whole = dict.fromkeys(mix, 10**9) if judging else EVERYTHING
    config = PrepareConfig(tuple(data), out, seed, limits_of(limit or [], whole if everything else mix), tuple(without or ()))
    if judging:
        from selfrag import models
        from selfrag.config import settings

        model = models.resolve(judging, settings.load().paths.cache).path
        counts = own_answers.prepare(config, model, lambda line: terminal.say(line, quiet))
    else:
        counts = make(config)
    if json:
        sources = sorted({source for source, _ in counts})
        terminal.print_json({s: {token: n for (name, token), n in sorted(counts.items()) if name == s} for s in sources})
    elif not quiet:
        show_counts(counts)


def show_counts(counts: Counter[tuple[str, str]]) -> None:
    from rich.text import Text

    from selfrag.algorithm.reflection import REFLECTION_TOKENS

    sources = sorted({source for source, _ in counts})
    table = terminal.table("token", *sources, "all")
    for column in table.columns[1:]:
        column.justify = "right"
    for token in ("rows", *REFLECTION_TOKENS):
        numbers = [counts[source, token] for source in sources]
        if sum(numbers):
            table.add_row(Text(token), *(str(n) if n else "" for n in numbers), str(sum(numbers)))
    terminal.show(table)


def run(
    rows: Annotated[Path, typer.Argument(metavar="ROWS", help="What `selfrag train prepare` wrote.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The run's folder; a run found there is resumed.")],
    base: Annotated[
        str | None, typer.Option(metavar="M", help=f"Model to adapt: {BASE}, or the one that --from was trained on.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="A", help="Train an adapter further: its folder, or the name of a model with one."),
    ] = None,
    epochs: Annotated[int, typer.Option(metavar="N", min=1, help="Passes over the rows.")] = 1,
    minutes: Annotated[
        float, typer.Option(metavar="T", min=0, help="End the schedule after T minutes of training; 0: no limit.")
    ] = 0,
    batch_tokens: Annotated[int, typer.Option(metavar="N", min=64, help="Tokens in a batch of each process.")] = 1600,
    max_tokens: Annotated[int, typer.Option(metavar="N", min=32, help="Longer rows are left out.")] = 640,
    lr: Annotated[float, typer.Option(metavar="X", min=0, help="Peak learning rate of the adapter.")] = 6e-4,
    rows_lr: Annotated[float, typer.Option(metavar="X", min=0, help="Peak learning rate of the new tokens' rows.")] = 2e-3,
    rank: Annotated[int | None, typer.Option(metavar="R", min=1, help="Rank of the adapter: 32, or that of --from.")] = None,
    first_block: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="First block with an adapter: 0, or that of --from.")
    ] = None,
    output_rows: Annotated[
        bool, typer.Option("--output-rows", help="New rows learn from the output side only: faster with a high first block.")
    ] = False,
    loss: Annotated[
        list[str] | None, typer.Option(metavar="GROUP=W", help="Weight of a group in the loss, such as ISREL=5; may be repeated.")
    ] = None,
    warmup: Annotated[int, typer.Option(metavar="N", min=1, help="Warm-up steps of the learning rate.")] = 40,
    dtype: Annotated[
        str | None, typer.Option(metavar="D", help="bfloat16 or float32.  [default: float32 on a CPU, bfloat16 on CUDA]")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the blocks first, for faster steps; takes minutes and a C++ compiler.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the batch order and of the adapter.")] = 1,
    checkpoint_minutes: Annotated[float, typer.Option(metavar="T", min=0, help="Minutes between checkpoints.")] = 5.0,
    quiet: Quiet = False,
) -> None:
    """Train an adapter and the rows of the reflection tokens; resumes from the last checkpoint.

    \b
    Examples:
      selfrag train run rows.jsonl -o runs/first --minutes 60 --first-block 10 --output-rows
      selfrag train run mine.jsonl -o runs/mine --from smollm2-135m-selfrag
      selfrag train run rows.jsonl -o runs/gpu --epochs 3 --batch-tokens 32000
      accelerate launch -m selfrag train run rows.jsonl -o runs/eight --base meta-llama/Llama-3.1-8B --epochs 3
    """
    from selfrag import models
    from selfrag.config import settings
    from selfrag.train import check_packages

    check_packages()
    from selfrag.train import adapters
    from selfrag.train.lora import AdapterConfig
    from selfrag.train.run import RunConfig, weights_of
    from selfrag.train.run import run as train

    folder = adapters.find(start) if start else None
    shape = adapters.shape(folder) if folder else AdapterConfig(first_block=0)
    adapter = AdapterConfig(
        rank=shape.rank if rank is None else rank,
        scale=shape.scale,
        first_block=shape.first_block if first_block is None else first_block,
        rows_from_input=not output_rows,
    )
    base = base or (adapters.base_of(start) if start else BASE)
    config = RunConfig(
        base=models.resolve(base, settings.load().paths.cache).path,
        base_name=base, start=folder,
        rows=rows, out=out, epochs=epochs, minutes=minutes, batch_tokens=batch_tokens, max_tokens=max_tokens,
        lr=lr, rows_lr=rows_lr, seed=seed, dtype=dtype, checkpoint_minutes=checkpoint_minutes, adapter=adapter,
        warmup=warmup, compiled=compiled, weights=weights_of(loss or []),
    )  # fmt: skip
    with terminal.stopping("this step") as stop:
        train(config, lambda line: terminal.say(line, quiet), stop)
    terminal.put(str(out / "adapter"))


def merge(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="An adapter's folder, or the name of a model with one.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The checkpoint's folder.")],
    base: Annotated[str | None, typer.Option(metavar="M", help="Model to merge into: the one it was trained on.")] = None,
) -> None:
    """Merge an adapter into its base model: an ordinary checkpoint for --model, transformers and vLLM.

    \b
    Examples:
      selfrag train merge runs/first/adapter -o runs/first/merged
    """
    from selfrag import models
    from selfrag.config import settings
    from selfrag.train import check_packages

    check_packages()
    from selfrag.train import adapters

    folder = adapters.find(adapter)
    info = models.resolve(base or adapters.base_of(adapter), settings.load().paths.cache)
    adapters.merge(info.path, folder, out)
    terminal.put(str(out))


def eval_(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Registry name, Hugging Face name or folder.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the development files.")],
    held_out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the training files, for the instructions held out there.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(metavar="M", help="Instruct model to compare with, by prompts.")] = None,
    size: Annotated[int, typer.Option(metavar="N", min=4, help="Items of each kind.")] = 200,
    engine: Annotated[str, typer.Option(metavar="E", help="auto, transformers, vllm, or a URL.")] = "auto",
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="Write results.json and results.md there.")
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Measure a reflection model on the development files, and compare it with a prompted model.

    \b
    Examples:
      selfrag train eval smollm2-135m-selfrag --data data/dev
      selfrag train eval runs/first/merged --data data/dev --baseline smollm2-135m-instruct -o runs/first
    """
    import asyncio

    results = asyncio.run(_measure(model, baseline, engine, data, held_out, size, quiet))
    from selfrag.train.evaluate import table, to_json

    document = {"schema": "selfrag.train-eval/1", "model": model, "baseline": baseline, "size": size, "results": to_json(results)}
    if out:
        import json as format_

        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_text(format_.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (out / "results.md").write_text(table(results), encoding="utf-8")
    terminal.result(document, table(results).rstrip(), json)


async def _measure(
    model: str, baseline: str | None, engine: str, data: Path, held_out: Path | None, size: int, quiet: bool
) -> list[Result]:
    from selfrag import models
    from selfrag.config import settings
    from selfrag.engines import open_engine
    from selfrag.reflectors.prompted import PromptedReflector
    from selfrag.reflectors.tokens import TokenReflector
    from selfrag.train import dev_set, evaluate

    asked = dev_set.build(data, held_out, size)
    cache = settings.load().paths.cache
    results = []
    for name in (model, baseline):
        if name:
            options: dict[str, Any] = {"reflection": "prompted"} if name == baseline else {}
            opened = open_engine(engine, models.resolve(name, cache).path, **options)
            reflector: Reflector
            if name == baseline:
                reflector, title = PromptedReflector(opened), f"{name}, prompted"
            else:  # always writes an answer; a threshold decides on abstaining
                reflector, title = TokenReflector(opened, relevant_above=sys.float_info.min), name
            results.append(await evaluate.evaluate(reflector, title, asked, lambda line: terminal.say(line, quiet)))
            await opened.close()
    return results


def reranker(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of the published data sets: train/, dev/ and corpora/.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Output file, .safetensors (7 MB).")],
    minutes: Annotated[float, typer.Option(metavar="T", min=0.01, help="Minutes of training.")] = 60,
    lr: Annotated[float, typer.Option(metavar="X", min=0, help="Peak learning rate.")] = 1.5e-4,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Train a re-ranker from the embedder's own layers, for --reranker FILE.

    It reads a question and a passage together, and learns to score the answering passage above similar ones. Ctrl-C ends the
    training and keeps the result.

    \b
    Examples:
      selfrag train reranker data -o reranker.safetensors --minutes 120
      selfrag search "who wrote Faust" --reranker reranker.safetensors --explain
    """
    from random import Random

    from selfrag.errors import UsageError
    from selfrag.train import check_packages

    if out.suffix != ".safetensors":
        raise UsageError(f"a re-ranker's file ends in .safetensors, not {out.suffix!r}", f"-o {out.with_suffix('.safetensors')}")
    check_packages()
    from selfrag.index.embedders.minilm import embedded_folder
    from selfrag.train.reranker import Plan, Progress, train
    from selfrag.train.reranker_pairs import examples

    found = examples(data, Random(seed))
    terminal.say(f"{len(found)} questions with their passages", quiet)

    def report(now: Progress) -> None:
        shown = f"step {now.step}, {now.minutes:.1f} minutes: loss {now.loss:.3f}, the right passage first {now.first:.0%}"
        terminal.say(shown, quiet)

    with terminal.stopping("this step") as stop:
        train(embedded_folder(), found, out, Plan(minutes=minutes, rate=lr, seed=seed), report, stop)
    terminal.put(str(out))


train = group(TRAIN, prepare, run, merge, eval_, reranker)
