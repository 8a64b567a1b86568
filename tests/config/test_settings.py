"""Settings: the file, the environment, the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfrag.config import settings
from selfrag.config.options import search_options
from selfrag.errors import ConfigError
from selfrag.types import ConfidenceWeights, SearchOptions, Weights


def write(home: Path, text: str) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    file = home / "config.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_home_moves_everything(tmp_path: Path) -> None:
    """With SELFRAG_HOME data, cache and configuration lie below it."""
    paths = settings.find_paths({"SELFRAG_HOME": str(tmp_path)})
    assert all(place.is_relative_to(tmp_path) for place in (paths.data, paths.cache, paths.config, paths.file, paths.history))


def test_platform_folders() -> None:
    """Without SELFRAG_HOME the three folders are the platform's, each named after the program."""
    paths = settings.find_paths({})
    assert all("selfrag" in place.parts for place in (paths.data, paths.cache, paths.config))


def test_defaults_are_the_papers(home: Path) -> None:
    """With nothing set, a search gets the defaults of SearchOptions."""
    assert search_options(settings.load().search, {}) == SearchOptions()


def test_later_sources_win(home: Path) -> None:
    """The environment goes over the file, the command line over both, and each value tells where it came from."""
    file = write(home, "# mine\nk = 3\nbeam_width = 4\nmodel = 'a'\n")
    now = settings.load({"SELFRAG_HOME": str(home), "SELFRAG_K": "6", "SELFRAG_MODEL": "b"}, model="c", beam_width=None)
    assert (now.value("k"), now.value("beam_width"), now.model) == (6, 4, "c")
    assert now.origins == {"k": "SELFRAG_K", "beam_width": f"{file}:3", "model": "--model"}


def test_unknown_key_names_the_nearest_and_the_line(home: Path) -> None:
    """A key that does not exist is an error that names file, line and the key that was probably meant."""
    file = write(home, "k = 3\n\nbeam_widht = 4\n")
    with pytest.raises(ConfigError, match="beam_width") as error:
        settings.load()
    assert f"{file}:3" in error.value.message


def test_a_table_is_an_unknown_key(home: Path) -> None:
    """A section, which no setting has, is told with its line, too."""
    file = write(home, "k = 3\n[search]\nmode = 'always'\n")
    with pytest.raises(ConfigError) as error:
        settings.load()
    assert f"{file}:2" in error.value.message


@pytest.mark.parametrize(
    "line", ["k = 0", "k = 2.5", "k = true", "w_rel = -1", "w_rel = nan", "threshold = 1.5", "mode = 'often'"]
)
def test_impossible_values(home: Path, line: str) -> None:
    """A value that cannot be is an error that says what is expected."""
    write(home, line + "\n")
    with pytest.raises(ConfigError, match="expected"):
        settings.load()


def test_impossible_values_on_the_command_line_and_in_the_environment(home: Path) -> None:
    """The message names the option, or the variable."""
    with pytest.raises(ConfigError, match="--w-rel"):
        settings.load(w_rel=-1.0)
    with pytest.raises(ConfigError, match="SELFRAG_K"):
        settings.load({"SELFRAG_HOME": str(home), "SELFRAG_K": "many"})


def test_broken_file(home: Path) -> None:
    """A file that is no TOML, or no UTF-8, is told by its name."""
    file = write(home, "k = = 3\n")
    with pytest.raises(ConfigError, match=r"config\.toml"):
        settings.load()
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"config\.toml"):
        settings.load()


def test_fitted_options_fill_what_is_open(home: Path) -> None:
    """What was fitted for a model counts where a person set nothing, and the default where neither says anything."""
    given = settings.load(abstain_isrel=0.1, w_rel=3.0).search
    options = search_options(given, {"threshold": 0.4, "abstain_isrel": 0.5, "abstain_issup": 0.6, "w_rel": 0.5, "w_ret": 2.0})
    assert (options.threshold, options.abstain_isrel, options.abstain_issup) == (0.4, 0.1, 0.6)
    assert options.weights == Weights(rel=3.0, sup=1.0, use=0.5, ret=2.0)
    assert search_options({}, {"confidence_bias": -1.0}).confidence == ConfidenceWeights(bias=-1.0)


def test_save_keeps_the_rest(home: Path) -> None:
    """Setting a key changes its line alone; comments and other keys stay; unsetting takes the line out."""
    file = write(home, "# passages\nk = 3\nmode = 'always'  # slow\n")
    paths = settings.find_paths()
    settings.save(paths, "k", "8")
    settings.save(paths, "model", 'my "own" \\ model')
    assert file.read_text("utf-8").splitlines()[:3] == ["# passages", "k = 8", "mode = 'always'  # slow"]
    assert settings.load().model == 'my "own" \\ model'
    settings.save(paths, "k", None)
    assert settings.load().value("k") == 5


def test_unsetting_what_is_not_set_writes_nothing(home: Path) -> None:
    """No file comes into being where there was nothing to take out."""
    settings.save(settings.find_paths(), "k", None)
    assert not home.exists()


def test_save_refuses_a_file_that_is_no_text(home: Path) -> None:
    """What cannot be read is left as it is, and told by its name."""
    file = write(home, "")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"config\.toml"):
        settings.save(settings.find_paths(), "k", "3")
    assert file.read_bytes() == b"\xff\xfe"


def test_save_follows_a_link(home: Path, tmp_path: Path) -> None:
    """A configuration that lies elsewhere and is linked to stays there."""
    home.mkdir()
    (home / "config.toml").symlink_to(tmp_path / "dotfiles.toml")
    settings.save(settings.find_paths(), "k", "3")
    assert (home / "config.toml").is_symlink()
    assert (tmp_path / "dotfiles.toml").read_text() == "k = 3\n"


def test_save_can_take_out_what_should_not_be_there(home: Path) -> None:
    """An unknown key that stands in the file can be removed by the command, but not be written."""
    write(home, "modle = 'x'\n")
    paths = settings.find_paths()
    settings.save(paths, "modle", None)
    assert settings.load().model == settings.DEFAULT_MODEL
    with pytest.raises(ConfigError, match="unknown key"):
        settings.save(paths, "modle", "x")
    with pytest.raises(ConfigError, match="unknown key"):
        settings.save(paths, "modle", None)
