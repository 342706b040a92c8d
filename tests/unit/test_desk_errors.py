"""Every refusal about cards and devices has a sentence in both languages, and no sentence is
without its refusal."""

import ast
import re
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

from portal.errors import DeskError

ROOT = Path(__file__).resolve().parents[2]
CATALOGUES = ROOT / "templates" / "lang" / "operator"
MODULES = sorted([*ROOT.glob("portal/cards/*.py"), ROOT / "portal" / "devices.py"])
LONGEST_WORDS = 12


def raised() -> dict[str, set[str]]:
    """The values each DeskError of these modules is raised with, by its key."""
    found: dict[str, set[str]] = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "DeskError":
                [key] = node.args
                assert isinstance(key, ast.Constant) and isinstance(key.value, str)
                names = {keyword.arg or "" for keyword in node.keywords}
                assert found.setdefault(key.value, names) == names
    return found


def sentences(language: str) -> dict[str, str]:
    with (CATALOGUES / f"{language}.errors.po").open("rb") as file:
        return {
            str(message.id).removeprefix("error."): str(message.string)
            for message in read_po(file)
            if message.id
        }


@pytest.mark.parametrize("language", ["id", "en"])
def test_a_refusal_has_a_sentence_with_its_values(language: str) -> None:
    found = sentences(language)
    assert set(found) == set(raised())
    for key, names in raised().items():
        assert set(re.findall(r"\{(\w+)\}", found[key])) <= names, key


def test_indonesian_sentences_are_short() -> None:
    for key, text in sentences("id").items():
        for sentence in re.split(r"(?<=[.!?])\s", text):
            assert len(sentence.split()) <= LONGEST_WORDS, f"{key}: {sentence}"


def test_a_refusal_is_an_english_sentence_on_the_command_line() -> None:
    error = DeskError("cards.replaced", serial="A001-01", new="A002-01")
    assert str(error) == "Card A001-01 was replaced; the new card is A002-01."
