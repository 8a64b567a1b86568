"""Request fields that some servers refuse, and how to do without them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from selfrag._http import ClientError

OPTIONAL = (
    "add_generation_prompt",
    "chat_template_kwargs",
    "continue_final_message",
    "logprobs",
    "max_tokens",
    "reasoning_effort",
    "repetition_penalty",
    "response_format",
    "return_token_ids",
    "return_tokens_as_token_ids",
    "seed",
    "skip_special_tokens",
    "stop_token_ids",
    "stream_options",
    "temperature",
    "top_logprobs",
)
"""Optional fields. Servers that refuse ``max_tokens`` call it ``max_completion_tokens``."""
_REFUSED = re.compile(
    r"un(supported|recognized|known|expected|available)|not (support|permitted|allowed)|invalid|forbidden", re.I
)
_TOGETHER = {
    "logprobs": ("logprobs", "top_logprobs"),
    "continue_final_message": ("continue_final_message", "add_generation_prompt"),
}


def refused(error: ClientError, body: Mapping[str, Any], keep: Collection[str] = ()) -> str | None:
    """The optional field of ``body`` that a refusal names, if any; never one of ``keep``."""
    if error.code not in (400, 422) or not _REFUSED.search(error.reason):
        return None
    named = [name for name in OPTIONAL if name in body and name not in keep and re.search(rf"\b{name}\b", error.reason)]
    return named[0] if named else None


def without(body: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """``body`` without the fields ``names`` and the fields that depend on them."""
    gone = {other for name in names for other in _TOGETHER.get(name, (name,))}
    kept = {name: value for name, value in body.items() if name not in gone}
    if "max_tokens" in gone and "max_tokens" in body:
        kept["max_completion_tokens"] = body["max_tokens"]
    return kept
