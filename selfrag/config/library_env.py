"""Keeps libraries from sending telemetry, downloading silently and occupying all cores. Imports none of them."""

from __future__ import annotations

import os

from selfrag.telemetry import exporter_named

_QUIET = {
    "ANONYMIZED_TELEMETRY": "False",  # chromadb
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # torch's threads that wait by spinning stop each other on a machine that is busy
    "OTEL_SDK_DISABLED": "true",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",  # bars of libraries; ours are drawn by rich
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


def silence_libraries() -> None:
    """Turns off telemetry, advice and background downloads of every library. Call it before they are imported.

    Variables already set in the environment stay unchanged.
    """
    for name, value in _QUIET.items():
        if name != "OTEL_SDK_DISABLED" or exporter_named(os.environ) == "none":  # our own spans need it
            os.environ.setdefault(name, value)


def allow_downloads() -> None:
    """Allows access to the model hub, for commands that announce a download. Call it before libraries are imported."""
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "0"
    os.environ.pop("TQDM_DISABLE", None)
