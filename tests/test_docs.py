"""The documents name every setting, command, option and dependency there is, and none that is not;
their links lead somewhere, and the service of docs/install-node.md starts a command that exists."""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from portal import setting_table, settings
from portal.cli.program import pesisir
from tests.e2e import command as real

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
UNIT = ROOT / "hotspot_config" / "pesisir.service"
SETTINGS = (DOCS / "settings.md").read_text(encoding="utf-8")
COMMANDS = (DOCS / "commands.md").read_text(encoding="utf-8")


def row(setting: setting_table.Setting) -> str:
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
        quoted = re.fullmatch(r"`(pesisir[a-z -]*?)(?: [A-Z\[{].*)?`", heading)
        assert quoted is not None, heading
        found[quoted[1]] = text
    return found


LEAVES = leaves(pesisir, "pesisir")


@pytest.mark.parametrize("setting", setting_table.TABLE, ids=lambda setting: setting.name)
def test_a_setting_is_documented_as_the_code_has_it(setting: setting_table.Setting) -> None:
    assert row(setting) in sections(SETTINGS, "##")[f"[{setting.section}]"]


def test_every_documented_setting_exists() -> None:
    known = {row(setting) for setting in setting_table.TABLE}
    for section, text in sections(SETTINGS, "##").items():
        if section.startswith("["):
            rows = [line for line in text.splitlines() if line.startswith("| `")]
            assert rows and set(rows) <= known


def test_variables_in_the_documents_exist() -> None:
    known = {*settings.COMMAND_VARIABLES}
    for setting in setting_table.TABLE:
        known |= {setting.variable, f"{setting.variable}_FILE"}
    for path in DOCS.glob("*.md"):
        named = re.findall(r"\bPESISIR_[A-Z_]+\b", path.read_text(encoding="utf-8"))
        assert set(named) <= known, path.name


def test_the_example_settings_are_good(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    for name in ("fullchain.pem", "privkey.pem"):
        (tmp_path / "tls" / name).touch()
    examples = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        examples += re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    assert len(examples) >= 3
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


# --- README, links, dependencies


def anchors(page: Path) -> set[str]:
    """The names a link can point to within a page, as code hosts make them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_readme_names_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("run", "test"):
        assert f"`make {target}`" in readme
        assert f"\n{target}:\n" in makefile


def test_every_make_target_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert set(re.findall(r"`make ([a-z]+)", text)) <= targets, page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_relative_to(ROOT) and target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_in_the_documents_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:portal|radius|tests|docs|hotspot_config)/[\w./-]*)`", text):
        # NAME stands for a name of the reader's choice.
        assert "NAME" in name or (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_to_type_can_be_typed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    for line in [*lines, *re.findall(r"`((?:\.venv/bin/)?pesisir --[^`]+)`", text)]:
        found = re.fullmatch(r"(?:\.venv/bin/)?pesisir (?:--dir \S+ )?(.+?)(?: > \S+)?", line)
        if found is None:
            continue
        given = shlex.split(re.sub(r"\$\(.*?\)", "x", found[1]))
        if given == ["--version"]:
            continue
        (name,) = [words for words in LEAVES if f"pesisir {found[1]} ".startswith(f"{words} ")]
        LEAVES[name].make_context(name, given[name.count(" ") :])


def test_the_design_gives_a_reason_for_every_dependency() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)
    listed = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    needed = {re.split(r"[^a-z0-9-]", entry)[0] for entry in listed}
    design = (DOCS / "design.md").read_text(encoding="utf-8")
    tables = design.split("## What each dependency is for")[1]
    explained = set(re.findall(r"^\| ([a-z0-9-]+) \| \S", tables, flags=re.MULTILINE))
    assert explained - {"package"} == needed


# --- the service


def unit() -> configparser.ConfigParser:
    """The systemd unit."""
    found = configparser.ConfigParser(strict=False, interpolation=None, comment_prefixes=("#",))
    found.optionxform = str  # type: ignore[assignment,method-assign]  # names are not lower-cased
    found.read_string(UNIT.read_text(encoding="utf-8"))
    return found


def test_the_service_starts_a_command_that_exists_where_the_documents_put_it() -> None:
    service = unit()["Service"]
    program, *words = shlex.split(service["ExecStart"])
    outcome = real.pesisir(*words, "--help")
    assert outcome.status == 0 and "Run the node." in outcome.out
    install = (DOCS / "install-node.md").read_text(encoding="utf-8")
    assert f"ln -s {program} " in install
    assert f"python3 -m venv {Path(program).parent.parent}\n" in install
    directory = words[words.index("--dir") + 1]
    assert directory == f"/var/lib/{service['StateDirectory']}"
    assert f"-m 700 {directory}\n" in install
    assert f"useradd --system --home-dir {directory} " in install
    assert f"-o {service['User']} -g {service['Group']} " in install


def test_the_service_comes_back_and_is_given_time_to_stop() -> None:
    service = unit()["Service"]
    assert service["Restart"] == "always"
    assert int(service["TimeoutStopSec"]) > 10
    assert unit()["Unit"]["StartLimitIntervalSec"] == "0"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_service(tmp_path: Path) -> None:
    text = UNIT.read_text(encoding="utf-8")
    # It looks whether the program is there.
    place = tmp_path / UNIT.name
    place.write_text(text.replace(shlex.split(unit()["Service"]["ExecStart"])[0], sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", place], capture_output=True, text=True, timeout=60
    )
    # Other units of the machine may have faults of their own.
    complaints = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert not complaints
