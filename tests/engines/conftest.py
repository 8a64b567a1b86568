from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines import tiny


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny reflection model's folder."""
    return tiny.build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def oracle(checkpoint: Path) -> tiny.Oracle:
    return tiny.Oracle(checkpoint)
