"""The operator's first page and the help page, as a browser gets them; and that what they read is
read along an index."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal import alerts
from portal.link_watch import Look
from portal.store import db
from portal.web.operator.help import _SITUATIONS
from portal.web.text import Texts
from tests.unit.web.counter_gateway import CounterGateway
from tests.unit.web.desk import Desk, desk
from tests.unit.web.village import Page

HOME, HELP = "/operator/", "/operator/help"


@pytest.fixture
def d(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as found:
        found.do(found.node.admin.set_site("TANJUNG", {"power_window": ""}))
        yield found


def fact(page: Page, name: str) -> str:
    """What the page says of something."""
    found = re.search(rf"<dt>{re.escape(name)}</dt><dd[^>]*>(.*?)</dd>", page.html, re.DOTALL)
    assert found is not None, f"nothing about {name}: {page.text[:500]}"
    return " ".join(re.sub(r"<[^>]+>", " ", found[1]).split())


# --- the day


def test_a_fresh_box_says_what_it_knows_and_what_it_does_not(d: Desk) -> None:
    page = d.sign_in("sari").get(HOME)
    assert page.status == 200 and len(page.body) < 30_000
    assert fact(page, "Alat ini") == "● Menyala sejak pukul 12.00 WITA"
    assert fact(page, "Internet") == "○ Tidak diperiksa: alamat uji belum diatur"
    assert fact(page, "Nama situs (DNS)") == "○ Tidak diperiksa"
    assert fact(page, "Pusat data (hub)") == "○ Belum dipakai"
    assert "Belum ada gateway di lokasi ini." in page.text


def test_cards_given_and_unused_today_are_counted(d: Desk) -> None:
    async def give(n: int) -> list[str]:
        made = []
        for _ in range(n):
            card = await d.node.vouchers.give("harian", site="TANJUNG", by="sari")
            await d.node.vouchers.confirm_given(card["serial"], by="sari")
            made.append(card["serial"])
        return made

    yesterday = d.do(give(2))
    d.pass_time(86_400)
    today = d.do(give(3))
    d.do(d.node.vouchers.revoke([today[2]], "hilang"))
    taken_back = d.do(give(1))[0]
    d.do(d.node.vouchers.undo_give(taken_back, by="sari"))
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    gateway.start("0a01", today[0], "02-00-00-00-00-01")
    gateway.start("0a02", yesterday[0], "02-00-00-00-00-02")
    page = d.sign_in("sari").get(HOME)
    assert fact(page, "Kartu diberikan") == "3", "nobody has the one that was taken back"
    assert fact(page, "Belum dipakai") == "1", "one is used, one revoked"
    assert fact(page, "Sedang memakai") == "2 perangkat"
    listed = d.sign_in("sari").get("/operator/cards").text
    assert today[2] in listed and taken_back not in listed


def test_this_months_data_counts_open_and_ended_sessions_once_and_no_other_month(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    d.set_profile("luas", data_month="100GB")  # nothing is cut off while it counts
    _, serial = d.issue("luas", site="TANJUNG")
    sari = d.sign_in("sari")
    gateway.start("0a01", serial, "02-00-00-00-00-01", octets=1_000_000_000)
    assert fact(sari.get(HOME), "Data bulan ini") == "1,0 GB"
    gateway.end("0a01", octets=1_500_000_000)
    assert fact(sari.get(HOME), "Data bulan ini") == "1,5 GB"
    gateway.start("0a02", serial, "02-00-00-00-00-01", octets=500_000_000)
    assert fact(sari.get(HOME), "Data bulan ini") == "2,0 GB"
    d.pass_time(10 * 86_400)  # 1 December
    sari = d.sign_in("sari")
    assert fact(sari.get(HOME), "Data bulan ini") == "0 MB"
    gateway.interim("0a02", 700_000_000)
    # Spread over ten days and half a day of December, by the same rule as quotas.
    assert fact(sari.get(HOME), "Data bulan ini") == "10 MB"


def test_what_was_counted_survives_a_restart_and_an_upgrade(tmp_path: Path) -> None:
    with desk(tmp_path) as d:
        gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
        _, serial = d.issue(site="TANJUNG")
        gateway.start("0a01", serial, "02-00-00-00-00-01", octets=900_000_000)
        gateway.end("0a01", octets=900_000_000)
        d.do(d.node.commit.now())
        d.do(d.node.store.journal.settle())
        rows = d.call(
            lambda: [tuple(r) for r in d.node.store.database.all("SELECT * FROM site_day")]
        )
    assert rows == [(1, "2026-11-21", 900_000_000, 0)]


def test_usage_of_an_older_database_is_summed_by_site_when_it_is_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "pesisir.db"
    steps = db.migrations()
    db.migrate(path, steps[:1])
    with sqlite3.connect(path) as old:
        old.executescript(
            "INSERT INTO site (id, code, name, zone) VALUES (1, 'A', 'A', 'Asia/Makassar'),"
            " (2, 'B', 'B', 'Asia/Makassar');"
            "INSERT INTO profile VALUES ('p', '{}');"
            "INSERT INTO batch (id, site_id, profile, issued_at) VALUES (1, 1, 'p', 0),"
            " (2, 2, 'p', 0);"
            "INSERT INTO account (id, profile) VALUES (1, 'p'), (2, 'p'), (3, 'p');"
            "INSERT INTO voucher (account_id, batch_id, site_id, serial, code_hash, last4,"
            " issued_at) VALUES (1, 1, 1, 'A001-01', x'01', '0001', 0),"
            " (1, 1, 1, 'A001-02', x'02', '0002', 0), (2, 1, 1, 'A001-03', x'03', '0003', 0),"
            " (3, 2, 2, 'A002-01', x'04', '0004', 0);"
            "INSERT INTO usage_day VALUES (1, '2026-11-20', 5, 1), (2, '2026-11-20', 7, 2),"
            " (2, '2026-11-21', 11, 3), (3, '2026-11-21', 13, 4);"
        )
    old.close()
    db.migrate(path, steps)
    with sqlite3.connect(path) as new:
        found = new.execute("SELECT * FROM site_day ORDER BY site_id, day").fetchall()
    new.close()
    assert found == [
        (1, "2026-11-20", 12, 3),
        (1, "2026-11-21", 11, 3),
        (2, "2026-11-21", 13, 4),
    ]


def test_what_the_page_reads_is_read_along_an_index(d: Desk) -> None:
    asked: list[tuple[str, tuple[object, ...]]] = []
    reader = d.node.store.database._reader
    d.call(lambda: reader.set_trace_callback(lambda sql: asked.append((sql, ()))))
    sari = d.sign_in("sari")
    asked.clear()
    sari.get(HOME)
    d.call(lambda: reader.set_trace_callback(None))
    assert any("site_day" in sql for sql, _ in asked) and any("given_at" in sql for sql, _ in asked)

    def plans() -> list[str]:
        return [
            row["detail"]
            for sql, _ in asked
            for row in reader.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()
        ]

    scans = [line for line in d.call(plans) if line.startswith("SCAN")]
    assert scans == []


# --- the steps to the world, in words


def test_each_step_is_told_in_words(d: Desk) -> None:
    now = d.node.now()
    CounterGateway.at(d, "pos-1", "127.0.0.21")
    link = d.node.link_watch
    link._has_probes = True
    link.dns, link.hub = Look("up", now, now), Look("down", now, now - 600)
    d.node.backhaul.is_known, d.node.backhaul.looked_at = True, now
    sari = d.sign_in("sari")
    page = sari.get(HOME)
    assert fact(page, "Gateway pos-1") == "○ Sedang ditunggu"
    assert fact(page, "Internet") == "● Menyala"
    assert fact(page, "Nama situs (DNS)") == "● Ditemukan"
    assert fact(page, "Pusat data (hub)") == "■ Tidak terjangkau sejak pukul 11.50 WITA"
    assert "Diperiksa pukul 12.00 WITA" in page.text
    d.node.backhaul._outages.append((now - 1_200, None))
    page = sari.get(HOME)
    assert fact(page, "Internet") == "■ Putus sejak pukul 11.40 WITA"
    assert "Internet putus sejak pukul 11.40 WITA." in page.text


class Held(dict[int, Look]):
    """What was found of gateways, which no look in the background changes meanwhile."""

    def __setitem__(self, key: int, value: Look) -> None:
        pass


def test_a_silent_gateway_is_an_alarm_unless_it_answers_or_has_no_power(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    _, serial = d.issue(site="TANJUNG")
    gateway.start("0a01", serial, "02-00-00-00-00-01")
    gateway.end("0a01")
    gateway_id = d.node.admin.gateway("pos-1").id
    d.pass_time(7 * 3_600)  # 19.00
    sari = d.sign_in("sari")
    d.node.link_watch._touched = Held({gateway_id: Look("down", d.node.now(), d.node.now())})
    page = sari.get(HOME)
    assert "Gateway pos-1 diam sejak pukul 12.00 WITA." in page.text
    assert fact(page, "Gateway pos-1") == "■ Diam"
    d.node.link_watch._touched = Held({gateway_id: Look("up", d.node.now(), d.node.now())})
    page = sari.get(HOME)
    assert fact(page, "Gateway pos-1") == "● Menjawab, belum ada laporan"
    assert "Tidak ada masalah yang terlihat." in page.text
    d.node.link_watch._touched = Held({gateway_id: Look("down", d.node.now(), d.node.now())})
    d.do(d.node.admin.set_site("TANJUNG", {"power_window": "06:00-18:00"}))
    page = sari.get(HOME)
    assert fact(page, "Gateway pos-1") == "○ Diam, di luar jam menyala"
    assert "Sekarang di luar jam menyala." in page.text and "diam sejak" not in page.text


def test_wrong_codes_of_a_day_are_counted_and_told_over_two_hundred(d: Desk) -> None:
    tanjung = d.node.admin.site("TANJUNG").id
    waisai = d.node.admin.site("WAISAI").id

    def miss(n: int) -> None:
        for _ in range(n):
            d.node.misses.miss(None, tanjung, d.node.elapsed_s())

    d.call(lambda: miss(150))
    d.pass_time(23 * 3_600)
    d.call(lambda: miss(51))
    assert d.node.misses.count(waisai, d.node.elapsed_s()) == 0
    assert "201 kode salah dalam 24 jam." in d.sign_in("sari").get(HOME).text
    d.pass_time(2 * 3_600)
    assert "kode salah" not in d.sign_in("sari").get(HOME).text


def test_a_wrong_code_at_a_gateways_own_page_counts_for_its_site(d: Desk) -> None:
    tanjung = d.node.admin.site("TANJUNG").id
    d.call(lambda: d.node.misses.miss("02a1", None, 1.0, at_site=tanjung))
    assert d.node.misses.count(tanjung, 1.0) == 1
    assert d.node.misses.wait_s(None, tanjung, 1.0) == 0, "no site's limit holds there"


def test_an_admin_sees_every_site_and_an_operator_one(d: Desk) -> None:
    page = d.sign_in("kepala").get(HOME)
    assert "Semua lokasi" in page.text and "WiFi Desa Waisai" in page.links
    page = d.sign_in("sari").get(HOME)
    assert "Semua lokasi" not in page.text and "Waisai" not in page.text


def test_a_reviewer_is_offered_no_card(d: Desk) -> None:
    page = d.sign_in("tinjau").get(HOME)
    assert page.status == 200 and "Beri 1 kartu" not in page.links


def test_the_page_asks_for_a_fresh_look_at_the_link(d: Desk) -> None:
    sari = d.sign_in("sari")
    d.node.link_watch._wanted.clear()
    sari.get(HOME)
    assert d.node.link_watch._wanted.is_set()


@pytest.mark.parametrize("language", ["id", "en"])
def test_every_alert_has_its_words_and_what_to_do(language: str) -> None:
    source = Path(alerts.__file__).read_text("utf-8")
    t = Texts().translator(language)
    values = dict.fromkeys(("since", "free", "now", "made", "gateway", "device"), "x")
    names = set(re.findall(r'Alert\(\s*"(\w+)"', source))
    assert len(names) > 12
    for name in names:
        assert t(f"home.alert_{name}", n=3, **values)
        assert t(f"home.alert_{name}_do")


# --- help


def test_help_has_ten_situations_with_steps_and_ways_that_lead_somewhere(d: Desk) -> None:
    sari = d.sign_in("sari")
    page = sari.get(HELP)
    assert page.status == 200 and len(page.body) < 30_000
    assert len(_SITUATIONS) == 10
    for name, steps, ways in _SITUATIONS:
        section = page.html.partition(f'id="{name}"')[2].partition("</section>")[0]
        assert section.count("<li>") == steps, name
        assert f'href="#{name}"' in page.html
        for href, _ in ways:
            assert f'href="{href}"' in section, (name, href)
            assert sari.get(href).status == 200, href


def test_help_is_in_the_menu_of_every_page_and_leads_nowhere_outside(d: Desk) -> None:
    sari = d.sign_in("sari")
    for path in (HOME, "/operator/online", HELP):
        assert sari.get(path).links["Bantuan"] == HELP
    addresses = re.findall(r'(?:href|src|action)="([^"]+)"', sari.get(HELP).html)
    assert all(address.startswith(("/operator", "#", "data:")) for address in addresses)


def test_help_promises_that_time_stops_only_where_the_box_can_tell(tmp_path: Path) -> None:
    promise = "Selama tercatat putus, waktu di kartu tidak berkurang."
    for name in ("without", "with"):
        (tmp_path / name).mkdir(mode=0o700)
    with desk(tmp_path / "without") as d:
        assert promise not in d.sign_in("sari").get(HELP).text
    with desk(tmp_path / "with", variables={"PESISIR_BACKHAUL_PROBES": '["127.0.0.1:9"]'}) as d:
        assert promise in d.sign_in("sari").get(HELP).text


@pytest.mark.parametrize("topic", ["home", "online", "help"])
def test_sentences_are_short_and_both_languages_say_the_same_keys(topic: str) -> None:
    place = Path(__file__).parents[3] / "templates" / "lang" / "operator"
    texts = {
        language: re.findall(
            r'^msgid "(.+)"$(?:\nmsgid_plural .*)?\nmsgstr(?:\[0\])? "(.*)"$',
            (place / f"{language}.{topic}.po").read_text("utf-8"),
            re.MULTILINE,
        )
        for language in ("id", "en")
    }
    assert [key for key, _ in texts["id"]] == [key for key, _ in texts["en"]]
    long = [
        sentence
        for _, text in texts["id"]
        for sentence in re.split(r"(?<=[.?!]) ", text)
        if len(sentence.split()) > 12
    ]
    assert long == []
