"""The operators' catalogues: whole in both languages, nothing left over, short plain sentences."""

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from portal import errors
from portal.audit import ACTIONS
from portal.errors import DeskError
from portal.operators import ROLES
from portal.resources import data_dir
from portal.web.operator.desk import NAV
from portal.web.text import CatalogueError, Texts

ROOT = Path(__file__).resolve().parents[3]
CATALOGUES = data_dir("templates") / "lang" / "operator"
HUB_CATALOGUES = data_dir("templates") / "lang" / "diskominfo"
TEXTS = Texts()
ID, EN = TEXTS.translator("id"), TEXTS.translator("en")
MOST_WORDS = 12
MOST_WORDS_HELP = 20
"""The pages that explain something may breathe once."""


@cache
def keys(language: str, catalogues: Path = CATALOGUES) -> Counter[str]:
    found: Counter[str] = Counter()
    for path in catalogues.glob(f"{language}.*.po"):
        found.update(re.findall(r'^msgid "(.+)"$', path.read_text("utf-8"), re.MULTILINE))
    return found


@cache
def texts(language: str) -> dict[str, tuple[str, ...]]:
    catalogue = TEXTS.translator(language)._catalogue
    return {key: forms for key, forms in catalogue.texts.items() if key in keys(language)}


def test_both_languages_have_the_same_files_and_keys() -> None:
    topics = {
        language: {path.name.split(".")[1] for path in CATALOGUES.glob(f"{language}.*.po")}
        for language in ("id", "en")
    }
    assert topics["id"] == topics["en"]
    assert sum(1 for _ in CATALOGUES.iterdir()) == 2 * len(topics["id"])
    assert set(keys("id")) == set(keys("en"))
    assert len(keys("id")) > 200


@pytest.mark.parametrize("language", ["id", "en"])
def test_no_key_is_said_twice_and_none_is_empty(language: str) -> None:
    assert [key for key, count in keys(language).items() if count > 1] == []
    assert [key for key in keys(language) if key not in texts(language)] == []


def test_no_text_is_left_that_nobody_says() -> None:
    code = "\n".join(
        path.read_text("utf-8")
        for folder, kinds in (("portal", ("*.py",)), ("templates", ("*.html", "*.js")))
        for kind in kinds
        for path in (ROOT / folder).rglob(kind)
    )
    quoted = set(re.findall(r"""["']([A-Za-z0-9_.]+)["']""", code))
    # What is put together when it is said: t("role." ~ role), t(f"audit.{action}").
    begun = set(re.findall(r"""["']([a-z_]+[._][A-Za-z_.]*)["']\s*~""", code))
    begun |= set(re.findall(r"""f["']([a-z_]+\.[A-Za-z_.]*)\{""", code)) - {"error.", "notice."}

    def is_said(key: str) -> bool:
        if (
            key in quoted
            or key.partition(".")[2] in quoted
            and key.startswith(("error.", "notice."))
        ):
            return True
        return any(key.startswith(start) for start in begun)

    assert sorted(key for key in keys("id") if not is_said(key)) == []


def test_every_word_of_the_code_has_its_text() -> None:
    wanted = {f"audit.{action}" for action in ACTIONS} | {f"role.{role}" for role in ROLES}
    wanted |= {f"role.what.{role}" for role in ROLES} | {key for _, key in NAV}
    assert wanted - set(keys("id")) == set()


def test_errors_and_notices_of_the_code_have_their_texts() -> None:
    wanted = set()
    for path in (ROOT / "portal").rglob("*.py"):
        source = path.read_text("utf-8")
        wanted |= {
            f"error.{key}" for key in re.findall(r"""DeskError\(\s*["']([\w.]+)["']""", source)
        }
        wanted |= {f"notice.{key}" for key in re.findall(r"""notice=["']([\w.]+)["']""", source)}
    assert len(wanted) > 40
    known = set(keys("id")) | set(keys("id", HUB_CATALOGUES))
    assert sorted(wanted - known) == []


def test_an_error_is_an_english_sentence_for_the_command_line() -> None:
    assert str(DeskError("operator_taken", name="sari")) == "There is an operator sari already."
    assert str(DeskError("pin_digits")) == "A PIN has 6 digits."
    errors._english.cache_clear()
    assert "sari" in str(DeskError("operator_unknown", name="sari"))


def test_sentences_are_short() -> None:
    long = []
    for key, forms in texts("id").items():
        most = (
            MOST_WORDS_HELP
            if key.startswith(("help.", "recovery.", "error.", "doctor.fix."))
            else MOST_WORDS
        )
        for form in forms:
            for sentence in re.split(r"[.!?:](?:\s|$)", form):
                if len(sentence.split()) > most:
                    long.append((key, len(sentence.split()), sentence))
    assert long == []


def test_indonesian_pages_hold_no_english() -> None:
    """Words that only English has; names of things people see elsewhere stay as they are."""
    english = {"the", "and", "is", "not", "card", "cards", "sign", "site", "please", "delete"}
    found = [
        (key, word)
        for key, forms in texts("id").items()
        for form in forms
        for word in re.findall(r"[a-z]+", re.sub(r"\{[a-z_]+\}", "", form.lower()))
        if word in english
    ]
    assert found == []


# --- the loader


HEADER = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=utf-8\\n"\n\n'


def write(path: Path, key: str, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'{HEADER}msgid "{key}"\nmsgstr "{text}"\n', "utf-8")


def test_topics_are_added_to_their_language(tmp_path: Path) -> None:
    write(tmp_path / "id.po", "yes", "Ya")
    write(tmp_path / "operator" / "id.cards.po", "cards.one", "Satu")
    translator = Texts(tmp_path).translator()
    assert (translator("yes"), translator("cards.one")) == ("Ya", "Satu")


def test_a_key_in_two_files_stops_the_start(tmp_path: Path) -> None:
    write(tmp_path / "id.po", "yes", "Ya")
    write(tmp_path / "operator" / "id.cards.po", "yes", "Iya")
    with pytest.raises(CatalogueError, match=r"id.cards.po says \['yes'\], which another"):
        Texts(tmp_path)


def test_a_topic_of_no_language_stops_the_start(tmp_path: Path) -> None:
    write(tmp_path / "id.po", "yes", "Ya")
    write(tmp_path / "operator" / "xx.cards.po", "cards.one", "Satu")
    with pytest.raises(CatalogueError, match=r"xx.cards.po is of no language here"):
        Texts(tmp_path)
