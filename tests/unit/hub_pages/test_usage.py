"""Usage log: filter, pages by key, the file, and one voucher only with a reason."""

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.web.diskominfo.usage import COLUMNS, written
from tests.unit.hub_pages.office import Office, OfficePerson
from tests.unit.web.village import Page

DAY_S = 86_400


def filled(hub: Office, count: int = 120, step_s: int = 1_800, people: int = 9) -> str:
    """A site whose box has told of sessions, the newest an hour ago."""
    node = hub.add_box("TJL")
    hub.heard(node)
    hub.sessions(
        node,
        [(count - one, 3_600 + one * step_s, one % people + 1) for one in range(count)],
    )
    return node


def keys_of(page: Page) -> list[str]:
    """The records on a page, by the address that opens them."""
    parts = page.html.split("/review/usage/voucher?at=")[1:]
    return [part.partition('"')[0] for part in parts]


def export(person: OfficePerson, **fields: Any) -> Page:
    page = person.get("/review/usage")
    return person.submit(page, action="/review/usage/export", **fields)


def test_pages_by_key_show_every_record_once_also_when_more_arrive(hub: Office) -> None:
    node = filled(hub)
    person = hub.enter("tinjau")
    page = person.get("/review/usage")
    seen = keys_of(page)
    assert len(seen) == 50
    hub.session(node, 5_000, ago_s=60)
    for _ in range(2):
        links = [part.partition('"')[0] for part in page.html.split('href="/review/usage?')[1:]]
        (older,) = [link for link in links if "below=" in link and "lang=" not in link]
        page = person.get("/review/usage?" + older.replace("&amp;", "&"))
        seen += keys_of(page)
    # Only the link to the other language is left.
    assert page.html.count("below=") == 1
    assert len(seen) == len(set(seen)) == 120
    assert [key.split(".")[0] for key in seen] == sorted(
        (key.split(".")[0] for key in seen), reverse=True
    )


def test_a_period_and_a_site_leave_the_rest_out(hub: Office) -> None:
    filled(hub, 10, DAY_S)
    hub.add_site("WSI", "Desa Waisai")
    other = hub.add_box("WSI", "f" * 16)
    hub.session(other, 1)
    person = hub.enter("tinjau")
    assert len(keys_of(person.get("/review/usage?at=WSI"))) == 1
    assert len(keys_of(person.get("/review/usage?at=TJL&from=2026-11-20&to=2026-11-21"))) == 2
    assert len(keys_of(person.get("/review/usage?from=2026-11-01&to=2026-11-30"))) == 11


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("from=2026-11-21&to=2026-11-20", "lebih awal"),
        ("from=2026-01-01&to=2026-11-20", "Paling lama 92 hari"),
    ],
)
def test_a_period_that_makes_no_sense_is_refused_in_words(
    hub: Office, query: str, said: str
) -> None:
    assert said in hub.enter("tinjau").get(f"/review/usage?{query}").alert


def test_the_page_says_until_when_data_goes(hub: Office) -> None:
    filled(hub, 1)
    assert "Data sampai hari ini pukul 11.59 WITA" in hub.enter("tinjau").get("/review/usage").text


def test_no_pseudonym_is_in_the_log_or_the_file(hub: Office) -> None:
    filled(hub, 5)
    person = hub.enter("ketua")
    for page in (person.get("/review/usage"), export(person)):
        assert "0101010101" not in page.html and "pseudonym" not in page.html.lower()


# --- the file


def test_the_file_has_every_record_and_says_what_it_is(hub: Office) -> None:
    node = filled(hub, 130)
    page = export(hub.enter("tinjau"))
    assert page.headers["content-type"].startswith("text/csv")
    assert page.headers["content-disposition"] == (
        'attachment; filename="pesisir-semua-2026-11-15-2026-11-21.csv"'
    )
    assert page.body.endswith(b"\r\n") and b"\n" not in page.body.replace(b"\r\n", b"")
    rows = list(csv.reader(io.StringIO(page.body.decode(), newline=""), strict=True))
    assert {len(row) for row in rows} == {len(COLUMNS)}
    assert rows[0][:2] == ["Masa", "2026-11-15 - 2026-11-21"]
    assert rows[1][:2] == ["Data sampai", "Data sampai hari ini pukul 11.59\u00a0WITA."] or rows[1][
        1
    ].startswith("Data sampai hari ini")
    assert rows[2][2] == "tinjau"
    assert tuple(rows[3]) == COLUMNS
    records = [dict(zip(COLUMNS, row, strict=True)) for row in rows[4:]]
    assert len({(one["epoch"], one["seq"]) for one in records}) == len(records) == 130
    assert {one["node"] for one in records} == {node}
    assert sum(int(one["input_octets"]) + int(one["output_octets"]) for one in records) == (
        130 * 10_000_000
    )
    assert records[0]["ended"].endswith("+08:00") and records[0]["site"] == "TJL"


def test_reading_and_downloading_are_written_down(hub: Office) -> None:
    filled(hub, 3)
    export(hub.enter("tinjau"), at="TJL")
    deeds = [(one["who"], one["deed"], one["object"]) for one in hub.deeds()][-2:]
    assert deeds == [("tinjau", "usage.read", "*"), ("tinjau", "usage.export", "TJL")]


@given(st.lists(st.lists(st.text(max_size=8) | st.integers(), min_size=2, max_size=4), max_size=4))
def test_no_cell_begins_as_a_formula_and_all_else_comes_back(rows: list[list[object]]) -> None:
    if not all(isinstance(cell, int) or "\x00" not in str(cell) for row in rows for cell in row):
        return
    back = list(csv.reader(io.StringIO(written(rows).decode(errors="replace"), newline="")))
    assert len(back) == len(rows)
    for row, found in zip(rows, back, strict=True):
        for cell, text in zip(row, found, strict=True):
            if isinstance(cell, str):
                assert not text.lstrip(" \n\u00a0").startswith(("=", "+", "-", "@", "\t", "\r"))
                assert text in (cell, f"'{cell}")
            else:
                assert text == str(cell)


# --- one voucher


def voucher(hub: Office, person: OfficePerson, reason: str) -> Page:
    key = keys_of(person.get("/review/usage"))[0]
    page = person.get(f"/review/usage/voucher?at={key}")
    return person.submit(page, reason=reason)


def test_a_voucher_opens_with_a_reason_which_is_written_down(hub: Office) -> None:
    filled(hub, 30)
    page = voucher(hub, hub.enter("tinjau"), "Permintaan tertulis nomor 12 tahun 2026")
    assert "01010101010101010101" in page.text
    assert "4 catatan" in page.text
    deed = hub.deeds()[-1]
    assert (deed["who"], deed["deed"]) == ("tinjau", "voucher.open")
    assert deed["reason"] == "Permintaan tertulis nomor 12 tahun 2026"
    assert "01010101" not in str(deed)


@pytest.mark.parametrize("reason", ["", "karena", "   x        ", "a" * 301])
def test_a_voucher_stays_shut_without_a_reason(hub: Office, reason: str) -> None:
    filled(hub, 3)
    before = hub.deeds()
    page = voucher(hub, hub.enter("tinjau"), reason)
    assert "Tulis alasan" in page.alert
    assert "0101010101" not in page.html
    assert [deed["deed"] for deed in hub.deeds()[len(before) :]] == ["usage.read"]
