"""Document: the text that is signed says one thing only, and other texts are refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.domain import document
from portal.domain.document import Document

ONE = Document("profiles", "all", 3, 0, "-", {"profiles": {"warga": {"data_day": "500MB"}}})


@given(
    scope=st.sampled_from(["all", "group pulau", "site TJL"]),
    version=st.integers(1, 10**9),
    at=st.integers(0, 2**40),
    words=st.text(),
)
def test_a_document_comes_back_as_it_was(scope: str, version: int, at: int, words: str) -> None:
    one = Document("announcements", scope, version, at, "a" * 64, {"words": words})
    assert document.parse(document.text_of(one)) == one


def test_its_text_can_stand_in_a_note() -> None:
    text = document.text_of(replace(ONE, content={"words": "a\n\nb"}))
    assert text.count("\n\n") == 1 and text.endswith("}\n")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "prices"},
        {"scope": "village"},
        {"scope": "site tjl"},
        {"version": 0},
        {"version": -1},
        {"not_before_at": -1},
        {"previous": "abc"},
    ],
)
def test_a_document_that_cannot_be_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(document.DocumentError):
        document.text_of(replace(ONE, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "doc profiles\n",
        document.text_of(ONE).replace("scope all\n", ""),
        document.text_of(ONE).replace("version 3", "version 03"),
        document.text_of(ONE).replace("version 3\n", "version 3\nversion 4\n"),
        document.text_of(ONE)[:-4] + "\n",
        "doc profiles\nscope all\nversion 1\nnot-before 0\nprev -\n\n[1]\n",
        "doc profiles\nscope all\nversion 1\nnot-before 0\nprev -\n\n" + "[" * 60_000,
        document.text_of(ONE) + " " * 64_000,
    ],
)
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(document.DocumentError):
        document.parse(text)


def test_the_narrower_scope_takes_precedence() -> None:
    scopes = ["site TJL", "all", "group pulau"]
    ordered = sorted((replace(ONE, scope=scope) for scope in scopes), key=lambda d: d.precedence)
    assert [one.scope for one in ordered] == ["all", "group pulau", "site TJL"]
