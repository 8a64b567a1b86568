"""The first thing to run on a machine with a GPU and vLLM: `python benchmarks/gpu_smoke.py MODEL`. It has not been run on one."""

from __future__ import annotations

import asyncio
import sys

from selfrag.engines import open_engine
from selfrag.reflection import JUDGEMENTS
from selfrag.types import Completion, Request, Text

PROMPT = (Text("### Instruction:\nWho wrote Faust?\n\n### Response:\n"),)


async def main(model: str) -> Completion:
    engine = open_engine("vllm", model)
    try:
        return await engine.complete(
            Request((Text("### Instruction:\nWho wrote Faust?\n\n### Response:\n"),), 20, watch=JUDGEMENTS)
        )
    finally:
        await engine.close()


if __name__ == "__main__":
    print(asyncio.run(main(sys.argv[1])))
