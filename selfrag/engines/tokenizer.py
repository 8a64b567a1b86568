"""Prompt parts to token ids and generated ids back to tokens, for every engine that works on ids.

Text from a person, a document or a model is encoded without added tokens, so that its characters cannot become control tokens;
the result is checked as well. Only a ``Control`` part, a chat template's own scaffolding and the ids of tokens that were
generated before can put a special id into a prompt.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tokenizers import Tokenizer

from selfrag.algorithm.reflection import REFLECTION_TOKENS
from selfrag.errors import EngineError, ModelError, UsageError
from selfrag.types import Control, Generated, Message, Part, Prompt, ReflectionKind, Request, Text, Token

_REPLACEMENT = "\ufffd"  # what a decoder writes for bytes that are not a whole character


class PromptTokenizer:
    """A model's tokenizer as selfrag uses it: a fast one of transformers, or a ``TokenizerFile``.

    ``begin`` is what the tokenizer prepends to every text. ``control`` maps the reflection tokens to ids and is empty for an
    instruct model that is opened with ``reflection="prompted"``; ``ends`` are the ids that end a text.

    Raises ModelError when a reflection token is missing or is not one token.
    """

    def __init__(self, tokenizer: Any, ends: Iterable[int] = (), reflection: ReflectionKind = "tokens") -> None:
        self._chat = tokenizer
        self._full: Tokenizer = tokenizer.backend_tokenizer
        self.begin = _leading_special(tokenizer)
        self._special = {i for i, added in self._full.get_added_tokens_decoder().items() if added.special}
        self.control = _control_ids(self._full) if reflection == "tokens" else {}
        self._plain, self._moved = _without_added_tokens(tokenizer)
        self._names = {i: name for name, i in self.control.items()}
        self._eos = eos = tokenizer.eos_token_id
        self.ends = frozenset(ends) | (frozenset() if eos is None else {int(eos)})
        self._empty = self._special | self.ends | self._names.keys()

    @classmethod
    def load(cls, model: str, reflection: ReflectionKind = "tokens") -> PromptTokenizer:
        """The tokenizer of a checkpoint folder or Hugging Face name; its generation settings may name further end tokens."""
        tokenizer = TokenizerFile.find(Path(model)) or _pretrained(model)
        return cls(tokenizer, _generation_ends(model), reflection)

    # --- to ids ----------------------------------------------------------------------------------------------------------------

    def encode(self, prompt: Prompt) -> list[int]:
        """The ids of a prompt, after the tokenizer's begin-of-sequence; for an empty prompt only that, or an end token."""
        ids = [] if prompt and isinstance(prompt[0], Message) else list(self.begin)
        for is_chat, parts in groupby(prompt, key=lambda part: isinstance(part, Message)):
            if is_chat:
                ids += self._chat_ids([part for part in parts if isinstance(part, Message)])
            else:
                ids += [i for part in parts for i in self.part_ids(part)]
        return ids or [self._placeholder()]

    def text_ids(self, text: str) -> list[int]:
        """The ids of plain text, never a special one."""
        ids = self._plain_ids(text)
        return ids if self._empty.isdisjoint(ids) else self._broken_up(text)

    def part_ids(self, part: Part) -> list[int]:
        """The ids of one part that is not a message."""
        match part:
            case Text(text):
                return self.text_ids(text)
            case Control(name):
                return [self._control_id(name)]
            case Generated(tokens):
                return [token.id for token in tokens]
        raise UsageError(f"a prompt has no part {part!r}")

    @property
    def end(self) -> int:
        """The id that a model is trained to end with. Raises ModelError for a tokenizer without one."""
        if self._eos is None:
            raise ModelError("the tokenizer has no end of sequence", "set eos_token in tokenizer_config.json")
        return int(self._eos)

    def watched(self, request: Request) -> dict[str, int]:
        """The ids whose log-probabilities a request wants, by name: reflection tokens, and the first tokens of its choices."""
        ids = {name: self._control_id(name) for name in request.watch}
        firsts = {word: self._first_id(word) for word in request.choices}
        if len(set(firsts.values())) < len(firsts):
            raise UsageError(f"the choices {', '.join(map(repr, firsts))} do not differ in their first token for this model")
        return ids | firsts

    def stops(self, request: Request) -> frozenset[int]:
        """The ids of a request's stop tokens; refuses names that are not reflection tokens, and a limit below 1."""
        if request.max_tokens < 1:
            raise UsageError(f"max_tokens is {request.max_tokens}, but a completion has at least 1 token")
        return frozenset(self._control_id(name) for name in request.stop)

    def _plain_ids(self, text: str) -> list[int]:
        return [self._moved.get(i, i) for i in self._plain.encode(text, add_special_tokens=False).ids]

    def _chat_ids(self, messages: Sequence[Message]) -> list[int]:
        """The chat template is rendered around placeholders; its scaffolding becomes special tokens, the contents plain text.

        A last assistant message stays open for the model to continue.
        """
        if not self._chat.chat_template:
            raise ModelError("the model has no chat template, so it cannot be asked with messages", "use an instruct model")
        stands = [f"\ue000{i}\ue001" for i in range(len(messages))]
        turns = [{"role": m.role, "content": stand} for m, stand in zip(messages, stands, strict=True)]
        goes_on = messages[-1].role == "assistant"
        rest: str = self._chat.apply_chat_template(turns, tokenize=False, add_generation_prompt=not goes_on)
        ids: list[int] = []
        for message, stand in zip(messages, stands, strict=True):
            scaffold, found, rest = rest.partition(stand)
            if not found:
                raise ModelError(f"the model's chat template has no place for a message of the {message.role}")
            ids += self._scaffold_ids(scaffold) + self.text_ids(message.text)
        return ids if goes_on else ids + self._scaffold_ids(rest)

    def _scaffold_ids(self, text: str) -> list[int]:
        """The ids of a template's own text, special ones among them."""
        ids: list[int] = _scaffolding(self._chat).encode(text, add_special_tokens=False).ids
        return ids

    def _broken_up(self, text: str) -> list[int]:
        """For models whose plain vocabulary spells a special token: each such spelling is encoded in two pieces."""
        spellings = [self._full.id_to_token(i) or "" for i in self._empty]
        pieces = _split_after_first(text, spellings)
        ids = [i for piece in pieces for i in self._plain_ids(piece)]
        if not self._empty.isdisjoint(ids):
            bad = next(i for i in ids if i in self._empty)
            raise EngineError(f"the tokenizer turns plain text into the special token {self._full.id_to_token(bad)!r}")
        return ids

    def _control_id(self, name: str) -> int:
        if name not in REFLECTION_TOKENS:
            raise UsageError(f"{name!r} is not a reflection token")
        if name not in self.control:
            raise ModelError(f"the model was opened without reflection tokens, so it has no {name}")
        return self.control[name]

    def _first_id(self, word: str) -> int:
        ids = self.text_ids(word)
        if not ids:
            raise UsageError(f"the choice {word!r} has no token")
        return ids[0]

    def _placeholder(self) -> int:
        begin = self._chat.bos_token_id
        if begin is None and not self.ends:
            raise EngineError("the prompt is empty, and the model has no token to begin with")
        return int(begin) if begin is not None else min(self.ends)

    # --- from ids --------------------------------------------------------------------------------------------------------------

    def reader(self, prompt_ids: Sequence[int]) -> Reader:
        """Reads the ids that are generated after ``prompt_ids``, one by one."""
        return Reader(self, prompt_ids)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._full.decode(list(ids), skip_special_tokens=False))

    def name(self, token_id: int) -> str | None:
        """The reflection token with this id, if any."""
        return self._names.get(token_id)

    def is_text(self, token_id: int) -> bool:
        """Whether an id is text: no control token, end of sequence or other special token."""
        return token_id not in self._empty


class Reader:
    """Generated ids to ``Token`` values whose texts join to the decoded text.

    The text of an id is what it adds to the decoded text of those before it, since a tokenizer may decode the same id with or
    without a space; incomplete bytes of a character wait for the id that completes it.
    """

    def __init__(self, tokenizer: PromptTokenizer, prompt_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = _text_tail(tokenizer, prompt_ids)
        self._start, self._read = 0, len(self._ids)
        while self._read and tokenizer.decode(self._ids[: self._read]).endswith(_REPLACEMENT):
            self._read -= 1  # the prompt ends within a character

    def token(self, token_id: int, logprob: float, watched: Mapping[str, float]) -> Token:
        return Token(token_id, self._text(token_id), logprob, watched, self._tokenizer.name(token_id))

    def _text(self, token_id: int) -> str:
        if not self._tokenizer.is_text(token_id):
            return ""
        self._ids.append(token_id)
        before = self._tokenizer.decode(self._ids[self._start : self._read])
        after = self._tokenizer.decode(self._ids[self._start :])
        if after.endswith(_REPLACEMENT) or len(after) <= len(before):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return after[len(before) :]


def _text_tail(tokenizer: PromptTokenizer, prompt_ids: Sequence[int]) -> list[int]:
    """The text at the end of a prompt, from its beginning: decoders fail on a run of bytes from its middle."""
    start = len(prompt_ids)
    while start and tokenizer.is_text(prompt_ids[start - 1]):
        start -= 1
    return list(prompt_ids[start:])


@dataclass(frozen=True)
class TokenizerFile:
    """The tokenizer of a checkpoint folder whose tokenizer.json is complete: read by `tokenizers` alone.

    It has the interface of a transformers tokenizer that `PromptTokenizer` needs; transformers is imported only for chat
    templates.
    """

    folder: Path
    backend_tokenizer: Tokenizer
    bos_token_id: int | None
    eos_token_id: int | None

    @classmethod
    def find(cls, folder: Path) -> TokenizerFile | None:
        """None if the tokenizer's class does more than its file says, or if the folder is missing."""
        try:
            settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
            if settings.get("tokenizer_class") not in ("TokenizersBackend", "PreTrainedTokenizerFast"):
                return None
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except OSError:
            return None
        except Exception as error:  # of `tokenizers`, whose errors have no class of their own
            raise ModelError(f"the tokenizer in {folder} cannot be read: {error}", "selfrag models list") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        ends = [_token_id(tokenizer, settings.get(name)) for name in ("bos_token", "eos_token")]
        return cls(folder, tokenizer, *ends)

    def __call__(self, text: str) -> Any:
        return SimpleNamespace(input_ids=self.backend_tokenizer.encode(text).ids)

    @property
    def is_plain_without_special(self) -> bool:
        """Whether the text tokens are the same without a search for special tokens."""
        added = self.backend_tokenizer.get_added_tokens_decoder().values()
        return all(token.special or not token.content.strip() for token in added)

    @cached_property
    def scaffolding(self) -> Tokenizer:
        """A second load of the file, which matches special tokens."""
        return Tokenizer.from_file(str(self.folder / "tokenizer.json"))

    @cached_property
    def _templates(self) -> Any:
        return _pretrained(str(self.folder))

    @property
    def chat_template(self) -> Any:
        return self._templates.chat_template

    def apply_chat_template(self, *args: Any, **options: Any) -> Any:
        return self._templates.apply_chat_template(*args, **options)


def _pretrained(model: str) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        mends = "selfrag models list" if Path(model).exists() else f"selfrag models pull {model}"
        raise ModelError(f"no tokenizer for {model}: {error}", mends) from error
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise ModelError(f"{model} has no fast tokenizer", "save the model with a tokenizer.json file")
    return tokenizer


def _token_id(tokenizer: Tokenizer, named: Any) -> int | None:
    """The id of a token in tokenizer_config.json, given as its text or as an object."""
    content = named.get("content") if isinstance(named, dict) else named
    return tokenizer.token_to_id(content) if content else None


def _scaffolding(tokenizer: Any) -> Tokenizer:
    return tokenizer.scaffolding if isinstance(tokenizer, TokenizerFile) else tokenizer.backend_tokenizer


def _without_added_tokens(source: Any) -> tuple[Tokenizer, dict[int, int]]:
    """A tokenizer that has only its model's own pieces, and the original ids of those with different ones.

    Runs of white space stay: some models have them as added tokens, which are renumbered when others are removed. A
    ``TokenizerFile`` itself stops looking for special tokens, if that suffices; any other tokenizer is copied.
    """
    tokenizer: Tokenizer = source.backend_tokenizer
    if isinstance(source, TokenizerFile) and source.is_plain_without_special:
        tokenizer.encode_special_tokens = True
        return tokenizer, {}
    settings = json.loads(tokenizer.to_str())
    kept = [added for added in settings["added_tokens"] if not added["content"].strip()]
    settings |= {"added_tokens": kept, "truncation": None, "padding": None, "post_processor": None}
    plain = Tokenizer.from_str(json.dumps(settings))
    moved = {plain.token_to_id(added["content"]): int(added["id"]) for added in kept}
    return plain, {i: original for i, original in moved.items() if i is not None}


def _leading_special(tokenizer: Any) -> tuple[int, ...]:
    """What the tokenizer prepends to every text: ``<s>`` for Llama, nothing for many."""
    ids = list(tokenizer("").input_ids)
    return tuple(ids[:1]) if ids[:1] == [tokenizer.bos_token_id] else ()


def _control_ids(tokenizer: Tokenizer) -> dict[str, int]:
    found = {name: tokenizer.token_to_id(name) for name in REFLECTION_TOKENS}
    whole = {name: i for name, i in found.items() if i is not None and _is_one(tokenizer, name, i)}
    if missing := [name for name in REFLECTION_TOKENS if name not in whole]:
        raise ModelError(
            f"the model lacks {len(missing)} of the 15 reflection tokens, or splits them: {', '.join(missing)}",
            "use a Self-RAG model (selfrag models list), or train one: selfrag train --help",
        )
    return whole


def _is_one(tokenizer: Tokenizer, name: str, token_id: int) -> bool:
    return bool(tokenizer.encode(name, add_special_tokens=False).ids == [token_id])


def _generation_ends(model: str) -> list[int]:
    """End tokens of the checkpoint's generation settings; a model may lack the file."""
    folder = Path(model)
    if folder.is_dir():
        file = folder / "generation_config.json"
        ends = json.loads(file.read_text("utf-8")).get("eos_token_id") if file.exists() else None
    else:
        from transformers import GenerationConfig

        try:
            ends = GenerationConfig.from_pretrained(model).eos_token_id
        except (OSError, ValueError):
            return []
    return [ends] if isinstance(ends, int) else list(ends or [])


def _split_after_first(text: str, spellings: Iterable[str]) -> list[str]:
    """``text`` in pieces, split after the first character of every occurrence of a spelling."""
    cuts = {0, len(text)}
    for spelling in filter(None, spellings):
        at = text.find(spelling)
        while at >= 0:
            cuts.add(at + 1)
            at = text.find(spelling, at + 1)
    marks = sorted(cuts)
    return [text[a:b] for a, b in pairwise(marks)]
