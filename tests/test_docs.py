"""The documents name every setting, command and option there is, and none that is not."""

import re
from pathlib import Path

import click
import pytest

from portal import settings
from portal.cli import pesisir

DOCS = Path(__file__).resolve().parent.parent / "docs"
SETTINGS = (DOCS / "settings.md").read_text(encoding="utf-8")
COMMANDS = (DOCS / "commands.md").read_text(encoding="utf-8")


def row(setting: settings.Setting) -> str:
    """The line of docs/settings.md that says what the table in code says."""
    variable = f"`{setting.variable}`"
    if setting.is_secret:
        variable += f" or `{setting.variable}_FILE`"
    default = settings.toml_text(setting.default)
    return f"| `{setting.key}` | {variable} | {setting.kind} | `{default}` | {setting.meaning} |"


def sections(text: str, level: str) -> dict[str, str]:
    """The text below each heading of that level, by heading."""
    parts = re.split(rf"^{level} (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def leaves(command: click.Command, path: str) -> dict[str, click.Command]:
    """Every command by its words."""
    if not isinstance(command, click.Group):
        return {path: command}
    found: dict[str, click.Command] = {}
    for name, inner in command.commands.items():
        found |= leaves(inner, f"{path} {name}")
    return found


def documented() -> dict[str, str]:
    """The text about each command by its words, as the headings of docs/commands.md give them."""
    found = {}
    for heading, text in sections(COMMANDS, "###?").items():
        quoted = re.fullmatch(r"`(pesisir[a-z ]*?)(?: [A-Z\[{].*)?`", heading)
        assert quoted is not None, heading
        found[quoted[1]] = text
    return found


LEAVES = leaves(pesisir, "pesisir")


@pytest.mark.parametrize("setting", settings.TABLE, ids=lambda setting: setting.name)
def test_a_setting_is_documented_as_the_code_has_it(setting: settings.Setting) -> None:
    assert row(setting) in sections(SETTINGS, "##")[f"[{setting.section}]"]


def test_every_documented_setting_exists() -> None:
    known = {row(setting) for setting in settings.TABLE}
    for section, text in sections(SETTINGS, "##").items():
        if section.startswith("["):
            rows = [line for line in text.splitlines() if line.startswith("| `")]
            assert rows and set(rows) <= known


def test_variables_in_the_documents_exist() -> None:
    known = {*settings.COMMAND_VARIABLES}
    for setting in settings.TABLE:
        known |= {setting.variable, f"{setting.variable}_FILE"}
    for path in DOCS.glob("*.md"):
        named = re.findall(r"\bPESISIR_[A-Z_]+\b", path.read_text(encoding="utf-8"))
        assert set(named) <= known, path.name


def test_the_example_settings_are_good(tmp_path: Path) -> None:
    examples = re.findall(r"```toml\n(.*?)```", SETTINGS, flags=re.DOTALL)
    assert examples
    for example in examples:
        (tmp_path / settings.FILE_NAME).write_text(example, encoding="utf-8")
        settings.load(tmp_path, {})


@pytest.mark.parametrize("words", LEAVES)
def test_a_command_is_documented_with_its_options(words: str) -> None:
    command = LEAVES[words]
    assert words in documented(), f"docs/commands.md has no heading `{words}`"
    text = documented()[words]
    options = {
        name
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in parameter.opts
    }
    named = set(re.findall(r"^\| `(--[a-z-]+)", text, flags=re.MULTILINE))
    assert named == options - {"--dir"}


def test_every_documented_command_exists() -> None:
    groups = {" ".join(words.split(" ")[:2]) for words in LEAVES}
    assert set(documented()) <= set(LEAVES) | groups


def test_the_arguments_in_the_headings_are_those_of_the_command() -> None:
    for words, command in LEAVES.items():
        context = click.Context(command)
        arguments = [
            parameter.make_metavar(context)
            for parameter in command.params
            if isinstance(parameter, click.Argument)
        ]
        heading = " ".join([words, *arguments])
        assert f" `{heading}`\n" in COMMANDS


def test_every_command_and_option_explains_itself() -> None:
    for words, command in LEAVES.items():
        assert command.help, words
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (words, parameter.name)
