from __future__ import annotations

import pytest

from selfrag import prompts
from selfrag.errors import InputError, UsageError


def test_the_instruction_is_the_published_one() -> None:
    """The prompt of training and inference, to the newline."""
    rendered = prompts.load("selfrag/instruction").render(instruction="Why?")
    assert rendered == "### Instruction:\nWhy?\n\n### Response:\n"


def test_the_instruction_with_an_input_is_the_published_one() -> None:
    """A separate input stands between instruction and response."""
    rendered = prompts.load("selfrag/instruction_with_input").render(instruction="Sum up.", input="Text")
    assert rendered == "### Instruction:\nSum up.\n\n### Input:\nText\n\n### Response:\n"


def test_every_shipped_template_is_well_formed() -> None:
    """Each file parses, and renders with the variables that it declares."""
    assert "selfrag/instruction" in prompts.names()
    for name in prompts.names():
        template = prompts.load(name)
        rendered = template.render(**{variable: f"<<{variable}>>" for variable in template.variables})
        assert all(f"<<{variable}>>" in rendered for variable in template.variables)


def test_names_of_a_folder() -> None:
    """A subfolder can be listed by itself."""
    assert set(prompts.names("selfrag")) == {name for name in prompts.names() if name.startswith("selfrag/")}


def test_values_are_not_templates() -> None:
    """Braces in a question stay what they are."""
    template = prompts.parse("variables: question\nQ: {question} {{kept}}", "t")
    assert template.render(question="{instruction} {0} {{x}}") == "Q: {instruction} {0} {{x}} {kept}"


def test_a_variable_may_stand_twice() -> None:
    """A variable is filled in wherever it stands."""
    assert prompts.parse("variables: a b\n{a}{b}{a}", "t").render(a="1", b="2") == "121"


@pytest.mark.parametrize(("values", "message"), [({}, "needs a value for a"), ({"a": "1", "b": "2"}, "no variable b")])
def test_rendering_is_strict(values: dict[str, str], message: str) -> None:
    """A missing or an unknown variable is an error."""
    with pytest.raises(UsageError, match=message):
        prompts.parse("variables: a\n{a}", "t").render(**values)


@pytest.mark.parametrize(
    "source",
    [
        "{a}",
        "variables: a\nno",
        "variables:\n{a}",
        "variables: a\n{a",
        "variables: a\n{a.b}",
        "variables: a\n{a!r}",
        "variables: a\n{}",
    ],
)
def test_malformed_files_are_refused(source: str) -> None:
    """Header and text must agree, and placeholders be plain names."""
    with pytest.raises(InputError, match="the prompt odd"):
        prompts.parse(source, "odd")


@pytest.mark.parametrize("name", ["selfrag/instructions", "nothing", "../README", "selfrag/../selfrag/instruction"])
def test_unknown_names_are_refused(name: str) -> None:
    """A name that is not a shipped file is an error, and no way out of the folder."""
    with pytest.raises(UsageError, match="unknown prompt"):
        prompts.load(name)
