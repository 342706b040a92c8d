"""Who is online, and the truth about ending a session: real RADIUS sockets, a real gateway's
answers, the pages as an operator's browser gets them."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.unit.web.counter_gateway import CounterGateway
from tests.unit.web.desk import Desk, Person, desk
from tests.unit.web.village import Page

LIST = "/operator/online"


@pytest.fixture
def d(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as found:
        # A gateway that says nothing is given up after 0.2 s instead of ten.
        found.node.disconnects._sender._waits_s = (0.1, 0.1)
        yield found


def online(d: Desk, gateway: CounterGateway, acct_id: str = "0a01", octets: int = 5_000_000) -> str:
    """Somebody is online at the gateway; returns the card's serial."""
    _, serial = d.issue(site="TANJUNG")
    gateway.start(acct_id, serial, mac_of(acct_id), octets=octets)
    return serial


def mac_of(acct_id: str) -> str:
    number = int(acct_id, 16)
    return f"02-00-00-00-{number >> 8:02x}-{number & 255:02x}"


def until(person: Person, url: str, is_there: Callable[[Page], bool]) -> Page:
    """Press "Perbarui" until the page says it, for half a minute."""
    give_up_s = monotonic() + 30
    while True:
        page = person.get(url)
        if is_there(page) or monotonic() > give_up_s:
            return page
        sleep(0.02)


def cut(person: Person) -> Page:
    """Disconnect the only one online, from the list on."""
    listed = person.get(LIST)
    asked = person.click(listed, "Putuskan")
    return person.submit(asked)


# --- the list


def test_nobody_online_is_said_in_words(d: Desk) -> None:
    page = d.sign_in("sari").get(LIST)
    assert page.status == 200
    assert "Tidak ada yang memakai sekarang." in page.text


def test_the_total_comes_first_and_each_row_says_card_since_data_time_and_gateway(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    serial = online(d, gateway, octets=420_000_000)
    d.pass_time(1_200)
    gateway.interim("0a01", 430_000_000)
    page = d.sign_in("sari").get(LIST)
    main = page.text.partition("1 perangkat sedang memakai")[2]
    assert main, page.text
    for words in (serial, "12.00", "430 MB", "1 jam 40 menit", "pos-1", "Putuskan"):
        assert words in main
    assert main.index(serial) < main.index("430 MB", main.index(serial))


def test_the_list_is_in_order_of_arrival_or_of_data(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    first = online(d, gateway, "0a01", 9_000_000)
    d.pass_time(60)
    second = online(d, gateway, "0a02", 1_000_000)
    sari = d.sign_in("sari")
    by_time = sari.get(LIST)
    assert by_time.text.index(second) < by_time.text.index(first)
    by_data = sari.click(by_time, "Urutkan: data")
    assert by_data.text.index(first) < by_data.text.index(second)
    assert "Urutkan: waktu" in by_data.links


def test_hundreds_of_sessions_come_in_pages_and_a_page_stays_small(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-dermaga", "127.0.0.21")
    for n in range(65):
        online(d, gateway, f"{n + 1:04x}", 412_300_000)
        d.pass_time(1)
    sari = d.sign_in("sari")
    first = sari.get(LIST)
    assert "65 perangkat sedang memakai" in first.text
    assert first.html.count("<tr>") == 31
    assert len(first.body) < 30_000
    seen = set(re.findall(r"A\d{3}-01", first.text))
    second = sari.click(first, "Berikutnya")
    third = sari.click(second, "Berikutnya")
    seen |= set(re.findall(r"A\d{3}-01", second.text + third.text))
    assert len(seen) == 65
    assert "Berikutnya" not in third.links and "Halaman 3 dari 3" in third.text
    assert sari.click(third, "Sebelumnya").url.endswith("?page=2")
    for strange in ("0", "-1", "99999999999", "x", "%D9%A3"):
        assert sari.get(f"{LIST}?page={strange}").status == 200


def test_operators_see_only_their_own_sites_phones(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    serial = online(d, gateway)
    session_id = d.call(lambda: next(d.node.sessions.open_sessions()).session.id)
    wayan = d.sign_in("wayan")
    assert serial not in wayan.get(LIST).text
    assert wayan.get(f"{LIST}/{session_id}").status == 404
    refused = wayan.send(f"{LIST}/{session_id}", {"csrf": wayan.csrf()})
    assert refused.status == 404
    attempt = d.do(d.node.online.disconnect(session_id, by="sari"))
    assert wayan.get(f"{LIST}/outcome/{attempt.number}").status == 404


def test_a_reviewer_reads_the_list_and_cannot_disconnect(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    serial = online(d, gateway)
    tinjau = d.sign_in("tinjau")
    page = tinjau.get(LIST)
    assert serial in page.text and "Putuskan" not in page.links
    session_id = d.call(lambda: next(d.node.sessions.open_sessions()).session.id)
    assert tinjau.send(f"{LIST}/{session_id}", {"csrf": tinjau.csrf()}).status == 403
    assert gateway.asked == []


# --- ending a session


def test_a_session_that_ends_is_seen_in_accounting(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    serial = online(d, gateway)
    sari = d.sign_in("sari")
    asked = sari.click(sari.get(LIST), "Putuskan")
    assert f"Putuskan {serial}?" in asked.text
    assert gateway.asked == [], "the question itself asks nobody"
    outcome = sari.submit(asked)
    assert outcome.url.endswith(f"{LIST}/outcome/1")
    until(sari, outcome.url, lambda page: "ya (ACK)" in page.text)
    page = until(sari, outcome.url, lambda page: "<script>" not in page.html)
    assert "Sudah putus pukul 12.00 WITA." in page.text
    assert "Gateway melaporkan sesi ini berakhir." in page.text
    assert re.search(r"ya \(ACK\), setelah \d+ ms", page.text)
    assert "diputus atas permintaan" in page.text
    assert "pukul 12.00 WITA, oleh sari" in page.text
    assert "Minta putus lagi" not in page.links
    assert "<script>" not in page.html, "nothing is left to wait for"
    assert "Tidak ada yang memakai sekarang." in sari.get(LIST).text


def test_a_yes_without_an_end_is_no_end(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    gateway.stops_first = False
    online(d, gateway)
    sari = d.sign_in("sari")
    outcome = cut(sari)
    page = until(sari, outcome.url, lambda page: "bilang ya" in page.text)
    assert "Gateway bilang ya, tetapi sesi belum putus." in page.text
    assert "masih terbuka, laporan terakhir" in page.text
    assert "Diminta putus 12.00" in sari.get(LIST).links
    gateway.end("0a01", octets=6_000_000, cause=6)
    page = sari.get(outcome.url)
    assert "Sudah putus" in page.text and "masih terbuka" not in page.text


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (504, "tidak (NAK): sesi tidak bisa dihentikan (504)"),
        (506, "tidak (NAK): gateway sedang penuh (506)"),
        (999, "tidak (NAK): kode 999"),
        (None, "tidak (NAK): tanpa alasan"),
    ],
)
def test_a_refusal_is_shown_with_its_cause(d: Desk, cause: int | None, words: str) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    gateway.answer, gateway.error_cause = "nak", cause
    online(d, gateway)
    sari = d.sign_in("sari")
    page = until(sari, cut(sari).url, lambda page: "menolak" in page.text)
    assert "Gateway menolak. Sesi masih terbuka." in page.text
    assert words in page.text


def test_a_gateway_that_knows_no_such_session_ends_it(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    gateway.answer, gateway.error_cause = "nak", 503
    online(d, gateway)
    sari = d.sign_in("sari")
    page = until(sari, cut(sari).url, lambda page: "Dianggap putus" in page.text)
    assert "Gateway bilang sesi ini tidak ada lagi." in page.text
    assert "tidak (NAK): gateway tidak mengenal sesi ini (503)" in page.text
    assert "gateway tidak mengenal sesi ini lagi" in page.text
    assert "Tidak ada yang memakai sekarang." in sari.get(LIST).text


def test_silence_is_first_a_wait_and_then_no_answer(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    gateway.answer = None
    d.node.disconnects._sender._waits_s = (1.0,)
    online(d, gateway)
    sari = d.sign_in("sari")
    outcome = cut(sari)
    assert "Menunggu jawaban gateway." in outcome.text and "belum ada" in outcome.text
    assert "<script>" in outcome.html
    page = until(sari, outcome.url, lambda page: "belum menjawab" in page.text)
    assert "Gateway belum menjawab. Sesi masih terbuka." in page.text
    assert "Permintaan diulang pada laporan berikutnya." in page.text


def test_what_was_not_answered_is_asked_again_at_the_next_report(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    gateway.answer = None
    online(d, gateway)
    sari = d.sign_in("sari")
    outcome = cut(sari)
    until(sari, outcome.url, lambda page: "belum menjawab" in page.text)
    gateway.answer = "ack"
    d.pass_time(300)
    gateway.interim("0a01", 7_000_000)
    page = until(sari, outcome.url, lambda page: "Sudah putus" in page.text)
    assert "Sudah putus pukul 12.05 WITA." in page.text
    assert "Permintaan terkirim: 2 kali" in page.text


def test_a_session_that_falls_silent_is_taken_as_ended_and_not_as_reported(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    gateway.stops_first = False
    online(d, gateway)
    sari = d.sign_in("sari")
    outcome = cut(sari)
    until(sari, outcome.url, lambda page: "bilang ya" in page.text)
    d.pass_time(2_000)
    d.call(d.node.accounting.close_stale)
    sari = d.sign_in("sari")
    page = sari.get(outcome.url)
    assert "Dianggap putus sejak pukul 12.00 WITA." in page.text
    assert "gateway tidak melapor lagi" in page.text


def test_a_phone_that_came_back_is_told(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    serial = online(d, gateway)
    sari = d.sign_in("sari")
    outcome = cut(sari)
    until(sari, outcome.url, lambda page: "Sudah putus" in page.text)
    d.pass_time(120)
    gateway.start("0a02", serial, mac_of("0a01"))
    page = sari.get(outcome.url)
    assert "Sudah masuk lagi pukul 12.02 WITA." in page.text
    assert "batalkan kartunya atau blokir perangkatnya" in page.text
    assert page.links["Buka kartunya"] == f"/operator/cards/{serial}"


def test_a_gateway_not_heard_since_the_start_is_asked_when_it_reports(tmp_path: Path) -> None:
    with desk(tmp_path) as d:
        gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
        online(d, gateway)
        live = d.call(lambda: next(d.node.sessions.open_sessions()))
        live.exchange = live.gateway_address = None  # as after a restart, behind a network
        sari = d.sign_in("sari")
        outcome = cut(sari)
        assert "Gateway belum terdengar sejak alat menyala." in outcome.text
        d.pass_time(60)
        gateway.interim("0a01", 6_000_000)
        page = until(sari, outcome.url, lambda page: "Sudah putus" in page.text)
        assert "Sudah putus pukul 12.01 WITA." in page.text


def test_pressing_twice_and_two_people_at_once_ask_once(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    gateway.answer = None
    d.node.disconnects._sender._waits_s = (2.0,)
    online(d, gateway)
    sari, kepala = d.sign_in("sari"), d.sign_in("kepala")
    asked = sari.click(sari.get(LIST), "Putuskan")
    other = kepala.get(asked.url)
    first = sari.submit(asked)
    again = sari.submit(asked)
    third = kepala.submit(other)
    assert first.url.partition("/operator")[2] == again.url.partition("/operator")[2]
    assert first.url.partition("/operator")[2] == third.url.partition("/operator")[2]
    assert len(d.node.disconnects.outcomes) == 1
    assert [deed["action"] for deed in d.deeds()].count("session.disconnect") == 1
    sleep(0.1)
    assert len(gateway.asked) == 1


def test_every_disconnect_is_in_the_audit_also_the_command_lines(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    serial = online(d, gateway)
    sari = d.sign_in("sari")
    cut(sari)
    deed = d.last_deed()
    assert (deed["operator"], deed["action"], deed["object"]) == (
        "sari",
        "session.disconnect",
        serial,
    )
    assert deed["site_id"] == d.node.admin.site("TANJUNG").id and "pos-1" in deed["details"]
    for path in (f"/operator/cards/{serial}", "/operator/audit"):
        told = sari.get(path).text
        assert "Memutus HP di pos-1" in told and "session" not in told, path
    second = online(d, gateway, "0a02")
    session_id = d.call(lambda: next(d.node.sessions.open_sessions()).session.id)
    answer = d.do(d.node.history.disconnect(session_id))
    assert answer["outcome"] == "ack"
    deed = d.last_deed()
    assert (deed["operator"], deed["object"]) == ("command line", second)
    page = sari.get(f"{LIST}/outcome/2")
    assert "oleh perintah pesisir" in page.text and "command line" not in page.text


def test_what_is_over_or_never_was_is_refused_in_a_sentence(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    online(d, gateway)
    sari = d.sign_in("sari")
    asked = sari.click(sari.get(LIST), "Putuskan")
    gateway.end("0a01")
    late = sari.submit(asked)
    assert late.status == 400
    assert "Sesi ini sudah berakhir. Tidak ada yang perlu diputus." in late.alert
    assert sari.get(f"{LIST}/77").status == 400
    for path in (f"{LIST}/{1 << 70}", f"{LIST}/outcome/5", f"{LIST}/outcome/{1 << 70}"):
        assert sari.get(path).status == 404, path


def test_only_the_last_two_hundred_outcomes_are_kept(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    online(d, gateway)
    live = d.call(lambda: next(d.node.sessions.open_sessions()))

    async def many() -> None:
        async def record(attempt: object) -> None:
            pass

        for _ in range(201):
            attempt = await d.node.disconnects.begin(live, "sari", record)
            attempt.answer = "timeout"

    d.do(many())
    assert len(d.node.disconnects.outcomes) == 200
    assert d.node.disconnects.attempt(1) is None and d.node.disconnects.attempt(201) is not None
