"""Every environment variable that selfrag reads, declared once. Settings have their own: ``SELFRAG_<KEY>`` for each key of
`config.settings.TABLE`. Variables that selfrag sets for libraries are in `config.library_env`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable: what it is for, and in words its default if it is not set or empty."""

    name: str
    meaning: str
    default: str = "–"

    def read(self, environ: Mapping[str, str] = os.environ) -> str:
        """Its value, empty where it is not set."""
        return environ.get(self.name, "")


HOME = Variable("SELFRAG_HOME", "Folder of collections, models and settings.", "the platform's own folders")
CONFIG = Variable("SELFRAG_CONFIG", "Configuration file instead of yours and the project's. `--config` sets it.", "config.toml")
API_KEY = Variable("SELFRAG_API_KEY", "API key for any server; `selfrag serve` requires it from clients.")
API_HOST = Variable(
    "SELFRAG_API_HOST",
    "Hosts (`host` or `host:port`, separated by commas) that SELFRAG_API_KEY is sent to.",
    "this machine and servers named with `--engine`",
)
API_TOKEN = Variable("SELFRAG_API_TOKEN", "Token that `selfrag api` and `selfrag mcp --http` require.")
ADAPTER = Variable("SELFRAG_ADAPTER", "Folder of an adapter to try in place of the bundled model's.", "the bundled one")

OPENAI_KEY = Variable("OPENAI_API_KEY", "Key for OpenAI's host, or that of OPENAI_BASE_URL; sent to no other.")
OPENAI_URL = Variable("OPENAI_BASE_URL", "URL of `--engine openai`, used unchanged.", "https://api.openai.com/v1")
OLLAMA_HOST = Variable("OLLAMA_HOST", "Address of `--engine ollama`.", "127.0.0.1:11434")
OLLAMA_KEY = Variable("OLLAMA_API_KEY", "Key of `--engine ollama`.", "SELFRAG_API_KEY")
LM_STUDIO_KEY = Variable("LM_API_TOKEN", "Key of `--engine lmstudio`.", "SELFRAG_API_KEY")
LLAMA_KEY = Variable("LLAMA_API_KEY", "Key of `--engine llamacpp`.", "SELFRAG_API_KEY")
VLLM_KEY = Variable("VLLM_API_KEY", "Key of `--engine vllm`.", "SELFRAG_API_KEY")

NO_COLOR = Variable("NO_COLOR", "If not empty: no colours. `--no-color` sets it.")
TERM = Variable("TERM", "The terminal: no escapes on `dumb`, no hyperlinks on `linux`.")
HF_ENDPOINT = Variable("HF_ENDPOINT", "Where `selfrag models pull` fetches from.", "the Hugging Face hub")
OTEL_DISABLED = Variable("OTEL_SDK_DISABLED", "`true`: no spans are exported.")
OTEL_EXPORTER = Variable("OTEL_TRACES_EXPORTER", "otlp, console or none.", "otlp where an endpoint is set, else none")
OTEL_ENDPOINT = Variable("OTEL_EXPORTER_OTLP_ENDPOINT", "Collector of OpenTelemetry that receives spans.")
OTEL_TRACES_ENDPOINT = Variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "The same, for spans alone.")
OTEL_SERVICE = Variable("OTEL_SERVICE_NAME", "Name of the service in spans.", "selfrag")
OTEL_CONTENT = Variable("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "`true`: spans hold questions and passages.")
DEEPSPEED = Variable("ACCELERATE_USE_DEEPSPEED", "Set by `accelerate launch` where `selfrag train` runs under DeepSpeed.")

VARIABLES: tuple[Variable, ...] = tuple(found for found in tuple(globals().values()) if isinstance(found, Variable))
"""Every variable, in the order of the reference page."""
