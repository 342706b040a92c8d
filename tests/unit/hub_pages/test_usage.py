"""Usage log: filter, pages by key, the file, and one voucher only with a reason."""

import csv
import io
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.web.diskominfo.usage_file import COLUMNS, FEW, written
from tests.unit.hub_pages.office import Office, OfficePerson
from tests.unit.web.village import Page

DAY_S = 86_400


def filled(hub: Office, count: int = 120, step_s: int = 1_700, people: int = 9) -> str:
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
        page = person.get(f"/review/usage?{below(page)}")
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
    person = hub.enter("ketua")
    assert len(keys_of(person.get("/review/usage?at=WSI"))) == 1
    assert len(keys_of(person.get("/review/usage?at=TJL&from=2026-11-20&to=2026-11-21"))) == 2
    assert len(keys_of(person.get("/review/usage?from=2026-11-01&to=2026-11-30"))) == 11


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("from=2026-11-21&to=2026-11-20", "lebih awal"),
        ("from=2026-01-01&to=2026-11-20", "Paling lama 92 hari"),
        ("from=2026-13-45", "Tanggal tidak dikenal"),
        ("to=kemarin", "Tanggal tidak dikenal"),
    ],
)
def test_a_period_that_makes_no_sense_is_refused_in_words(
    hub: Office, query: str, said: str
) -> None:
    assert said in hub.enter("tinjau").get(f"/review/usage?{query}").alert


def test_the_page_says_until_when_data_goes(hub: Office) -> None:
    filled(hub, 5)
    assert "Data sampai hari ini pukul 11.59 WITA" in hub.enter("tinjau").get("/review/usage").text


def test_no_pseudonym_is_in_the_log_or_the_file(hub: Office) -> None:
    filled(hub, 5)
    person = hub.enter("ketua")
    for page in (person.get("/review/usage"), export(person)):
        assert "0101010101" not in page.html and "pseudonym" not in page.html.lower()


# --- the file


def records_in(page: Page, delimiter: str = ",") -> list[dict[str, str]]:
    """The lines of a file by column."""
    text = page.body.decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter))
    assert tuple(rows[0]) == COLUMNS
    assert {len(row) for row in rows} == {len(COLUMNS)}
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows[1:]]


def test_the_file_has_every_record_and_says_what_it_is(hub: Office) -> None:
    node = filled(hub, 1_130, 400)
    page = export(hub.enter("tinjau"))
    assert page.headers["content-type"].startswith("text/csv")
    assert page.headers["content-disposition"] == (
        'attachment; filename="pesisir_semua_2026-11-15_2026-11-21'
        '_data-sampai-2026-11-21T11.59+0800.csv"'
    )
    assert page.body.endswith(b"\r\n") and b"\n" not in page.body.replace(b"\r\n", b"")
    records = records_in(page)
    assert len({(one["epoch"], one["seq"]) for one in records}) == len(records) == 1_130
    assert {one["node"] for one in records} == {node}
    assert sum(int(one["input_octets"]) + int(one["output_octets"]) for one in records) == (
        1_130 * 10_000_000
    )
    assert (records[0]["site"], records[0]["day"]) == ("TJL", "2026-11-21")
    assert {one["data_until"] for one in records} == {"2026-11-21T11:59:00+08:00"}
    assert all(
        datetime.fromisoformat(one["ended"]) - datetime.fromisoformat(one["started"])
        <= timedelta(minutes=30)
        for one in records
    )
    assert records[0]["ended"].endswith("+08:00")
    assert (records[0]["terminate_cause"], records[0]["cause"]) == (
        "User-Request",
        "keluar sendiri",
    )
    assert (records[0]["flags"], records[0]["clock_quality"]) == ("first last", "synchronised")


def test_a_spreadsheet_set_to_indonesian_gets_its_own_shape(hub: Office) -> None:
    filled(hub, 12)
    person = hub.enter("tinjau")
    for_excel = export(person, **{"as": "excel"})
    assert for_excel.body.startswith(b"\xef\xbb\xbfsite;site_name;day;")
    assert records_in(for_excel, ";") == records_in(export(person, **{"as": "csv"}))
    assert export(person, **{"as": "xml"}).status == 404


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (0, "masih berlanjut"),
        (1, "keluar sendiri"),
        (4, "lama tidak dipakai"),
        (5, "jatah waktu atau data habis"),
        (18, "diputus sistem"),
        (77, "sebab lain (77)"),
    ],
)
def test_the_log_says_why_a_session_ended_in_plain_words(
    hub: Office, cause: int, said: str
) -> None:
    filled(hub, 7)
    hub.write("UPDATE session_record SET cause = ?", [(cause,)])
    text = hub.enter("tinjau").get("/review/usage").text
    assert text.count(said) == 7


# --- few cards


def few(hub: Office) -> str:
    """Yesterday twelve cards at TJL, today three; and two of a guest's profile yesterday."""
    node = hub.add_box("TJL")
    hub.heard(node)
    yesterday = 20 * 3_600
    hub.write(
        "INSERT INTO node_name (node_id, what, number, name, code, zone)"
        " VALUES (?, 'profile', 2, 'tamu', '', '')",
        [(node,)],
    )
    hub.sessions(node, [(n, yesterday + n, n) for n in range(1, 11)], octets=1_000_000)
    hub.sessions(node, [(n, yesterday + n, n) for n in (11, 12)], octets=7_000_000, profile=2)
    hub.sessions(node, [(n, n * 60, n - 19) for n in (20, 21, 22)], octets=555_000_000)
    return node


def test_a_day_of_few_cards_is_one_line_without_figures(hub: Office) -> None:
    few(hub)
    person, admin = hub.enter("tinjau"), hub.enter("ketua")
    page = person.get("/review/usage")
    assert page.text.count("kurang dari 5 kartu, tidak dirinci") == 1
    assert len(keys_of(page)) == 12 and "555" not in page.html
    assert len(keys_of(admin.get("/review/usage"))) == 15
    lines = records_in(export(person))
    (hidden,) = [one for one in lines if one["hidden"]]
    assert {key: value for key, value in hidden.items() if value} == {
        "site": "TJL",
        "site_name": "Desa Tanjung",
        "day": "2026-11-21",
        "hidden": FEW,
        "data_until": "2026-11-21T11:59:00+08:00",
    }
    assert len(lines) == 13 and "555000000" not in str(lines)
    assert len(records_in(export(admin))) == 15


def test_with_the_fifth_card_a_day_is_itemised(hub: Office) -> None:
    node = few(hub)
    person = hub.enter("tinjau")
    hub.session(node, 23, ago_s=5, person=4)
    assert "tidak dirinci" in person.get("/review/usage").text
    hub.session(node, 24, ago_s=4, person=5)
    page = person.get("/review/usage")
    assert "tidak dirinci" not in page.text and len(keys_of(page)) == 17


def test_a_record_of_a_reviewer_points_at_no_smaller_group(hub: Office) -> None:
    few(hub)
    records = records_in(export(hub.enter("tinjau")))
    # Ten residents and two guests: who knew the residents would know the guests.
    assert {(one["profile"], one["gateway"]) for one in records} == {("", "")}
    told = {(one["profile"], one["gateway"]) for one in records_in(export(hub.enter("ketua")))}
    assert told == {("harian", "pos-1"), ("tamu", "pos-1")}


def test_a_profile_of_enough_cards_is_named(hub: Office) -> None:
    filled(hub, 12)
    assert {one["profile"] for one in records_in(export(hub.enter("tinjau")))} == {"harian"}


def test_a_session_over_midnight_tells_nothing_of_the_day_before(hub: Office) -> None:
    node = hub.add_box("TJL")
    hub.heard(node)
    # Ten minutes after midnight, of half an hour.
    hub.sessions(node, [(n, 11 * 3_600 + 50 * 60, n) for n in range(1, 7)])
    asked = {"from": "2026-11-21"}
    started = {one["started"] for one in records_in(export(hub.enter("tinjau"), **asked))}
    assert started == {"2026-11-21T00:00:00+08:00"}
    started = {one["started"] for one in records_in(export(hub.enter("ketua"), **asked))}
    assert started == {"2026-11-20T23:40:00+08:00"}


def below(page: Page) -> str | None:
    """Where the next page begins."""
    links = [part.partition('"')[0] for part in page.html.split('href="/review/usage?')[1:]]
    older = [link for link in links if "below=" in link and "lang=" not in link]
    return older[0].replace("&amp;", "&") if older else None


def test_pages_go_past_hidden_days_without_a_repeat(hub: Office) -> None:
    hub.add_site("WSI", "Desa Waisai")
    for code, node in (("TJL", "0" * 16), ("WSI", "f" * 16)):
        hub.add_box(code, node)
        hub.heard(node)
        for day in range(30):
            people = 2 if day % 2 else 6
            told = [(day * 10 + n, day * DAY_S + n, n) for n in range(1, people + 1)]
            hub.sessions(node, told)
    person, found, seen = hub.enter("tinjau"), 0, list[str]()
    query: str | None = "from=2026-10-01&to=2026-11-30"
    while query is not None:
        page = person.get(f"/review/usage?{query}")
        found += page.text.count("tidak dirinci")
        seen += keys_of(page)
        query = below(page)
    assert found == 30 and len(seen) == len(set(seen)) == 2 * 15 * 6


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


def test_what_no_card_is_known_of_cannot_be_opened_as_one(hub: Office) -> None:
    filled(hub, 6)
    hub.write("UPDATE session_record SET pseudonym = ?", [(bytes(10),)])
    page = voucher(hub, hub.enter("tinjau"), "Permintaan tertulis nomor 12")
    assert "bukan dari sebuah kartu" in page.alert
    assert "voucher.open" not in [deed["deed"] for deed in hub.deeds()]


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
    filled(hub, 6)
    before = hub.deeds()
    page = voucher(hub, hub.enter("tinjau"), reason)
    assert "Tulis alasan" in page.alert
    assert "0101010101" not in page.html
    assert [deed["deed"] for deed in hub.deeds()[len(before) :]] == ["usage.read"]
