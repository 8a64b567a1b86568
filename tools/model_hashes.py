"""Brings the hashes in selfrag/models/registry.toml up to date, after a new adapter or graph was put into the package.

    python tools/model_hashes.py

Builds the packaged models in the cache, which needs their base there (selfrag models pull), and writes what came out.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from selfrag.config.settings import find_paths
from selfrag.models import build
from selfrag.models.registry import HERE, Entry, entries

BUILT = ("model.safetensors", "llama.onnx", "llama.weights")


def hashes(entry: Entry) -> dict[str, str]:
    cache = find_paths().cache
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        base = Path(scratch) / "models" / "base"
        base.parent.mkdir()
        base.symlink_to(cache / "models" / "base", target_is_directory=True)
        folder = build.build(entry, Path(scratch), print)
        found = {name: build.sha256(folder / name) for name in BUILT}
    adapter = build.adapter_folder(entry)
    return ({"adapter_model.safetensors": build.sha256(adapter / "adapter_model.safetensors")} if adapter else {}) | found


def main() -> None:
    registry = HERE / "registry.toml"
    text = registry.read_text("utf-8")
    for entry in entries().values():
        if entry.base is None:
            continue
        table = "".join(f'"{name}" = "{value}"\n' for name, value in hashes(entry).items())
        header = f"[{entry.name}.sha256]\n"
        text = re.sub(rf"{re.escape(header)}[^\[]*?(?=\n\[|\Z)", "", text).rstrip() + "\n" if header in text else text
        base = f"[{entry.name}.base]\n"
        text = text.replace(base, f"{header}{table}\n{base}")
        text = re.sub(r"\n{3,}", "\n\n", text)
    registry.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
