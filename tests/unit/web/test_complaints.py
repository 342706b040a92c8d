"""Complaints: told on a phone without signing in, answered at the desk within 24 hours, looked up
with the number; what is personal is for operators only and goes with the other personal parts.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.complaints import (
    CLIENT_MOST,
    CONTACT_LONGEST,
    LOOKS_MOST,
    SITE_MOST,
    WAITING_MOST,
    WORDS_LONGEST,
)
from portal.web.forms import FORM_LIFE_S
from tests.unit.web.desk import Desk, desk
from tests.unit.web.village import Browser, Page, open_internet

PATH = "/complaint"
DESK = "/operator/complaints"
CONTACT = "Pak Rusli, 0800 000 0007"
HOUR_S = 3_600
PROXY = "127.0.0.9"


@pytest.fixture
def d(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, variables={"PESISIR_HTTP_TRUSTED_PROXIES": f'["{PROXY}"]'}) as found:
        yield found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """For what changes nothing."""
    directory = tmp_path_factory.mktemp("node")
    with desk(directory, variables={"PESISIR_HTTP_TRUSTED_PROXIES": f'["{PROXY}"]'}) as found:
        yield found


class Phone(Browser):
    """A phone with an address of its own, as a trusted proxy reports it."""

    def __init__(self, address: str = "10.20.30.1") -> None:
        super().__init__(PROXY)
        self._address = address

    def request(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Page:
        sent = {**(headers or {}), "x-forwarded-for": self._address}
        return super().request(method, url, body, sent)

    def tell(self, d: Desk, words: str = "Mati sejak pagi.", **typed: str) -> Page:
        """Fill in the form and send it."""
        fields = {"desa": "TANJUNG", "masalah": "no_internet", "pesan": words, "kontak": ""}
        return self.submit(self.get(d.url + PATH), **{**fields, **typed})

    def look_up(self, d: Desk, number: str) -> Page:
        return self.get(f"{d.url}{PATH}?nomor={number}")


def number_on(page: Page) -> str:
    """The full number a resident was given."""
    found = re.search(r"K-\d{4,}-\d{4}", page.text)
    assert found is not None, page.text
    return found[0]


def short(number: str) -> str:
    return number.rpartition("-")[0]


# --- residents


def test_a_complaint_gets_a_number_and_an_answer_that_the_number_shows(d: Desk) -> None:
    phone = Phone()
    page = phone.tell(d, kontak=CONTACT)
    assert page.status == 200 and "set-cookie" not in page.headers
    assert "Keluhan Anda sudah diterima." in page.text
    assert "Petugas menjawab dalam 24 jam." in page.text
    number = number_on(page)
    assert short(number) == "K-0001" and page.hops[-1].startswith(f"{d.url}/complaint/{number}")

    sari = d.sign_in("sari")
    listed = sari.get(DESK)
    assert "K-0001" in listed.text and "Sisa 1 hari" in listed.text
    one = sari.get(f"{DESK}/K-0001")
    assert "Mati sejak pagi." in one.text and "Pak Rusli" in one.text
    assert one.links["0800 000 0007"] == "tel:08000000007"
    d.pass_time(2 * HOUR_S)
    sari = d.sign_in("sari")
    page = sari.submit(sari.get(f"{DESK}/K-0001"), words="Sudah diperbaiki.\nTerima kasih.")
    assert "Keluhan K-0001 sudah dijawab." in page.text
    assert "Dijawab dalam 2 jam" in page.text
    deed = d.last_deed()
    assert (deed["operator"], deed["action"], deed["object"]) == (
        *("sari", "complaint.answer"),
        "K-0001",
    )
    assert "diperbaiki" not in str(deed)

    for asked in (number, number.lower(), number.replace("-", " "), number[2:].replace("-", "")):
        answer = phone.look_up(d, asked.replace(" ", "%20"))
        assert "Keluhan Anda sudah dijawab." in answer.text, asked
        assert "Sudah diperbaiki." in answer.text
    assert "Sudah diperbaiki." in phone.get(f"{d.url}/complaint/{number}").text
    # Phones are shared: neither what was told nor how to reach the person is shown again.
    assert "Mati sejak pagi." not in answer.text and "Rusli" not in answer.text


def test_the_site_and_the_card_are_known_behind_a_gateway(d: Desk) -> None:
    gateway = d.add_gateway(site="WAISAI")
    browser = Browser()
    code, serial = d.issue(site="WAISAI")
    page = browser.submit(open_internet(browser, gateway, gateway.phones[0]), kode=code)
    status = browser.click(page, "Lihat sisa kuota")
    form = browser.click(status, "Ada masalah? Lapor di sini.")
    assert "Desa Anda" not in form.text and f"Kartu {serial} ikut dicatat." in form.text
    page = browser.submit(form, masalah="card", pesan="Kuota cepat habis.", kontak="")
    found = d.call(lambda: d.node.complaints.one(1))
    assert found is not None and found.serial == serial
    assert d.node.admin.sites_by_id[found.site_id].code == "WAISAI"
    assert "pukul" in page.text and "WIT" in page.text
    assert f"/operator/cards/{serial}" in d.sign_in("wayan").get(f"{DESK}/K-0001").html


def test_the_card_of_a_known_device_is_not_noted(d: Desk) -> None:
    code, serial = d.issue(site="WAISAI")
    card = d.call(lambda: d.node.accounts.card_of_serial(serial, d.node.now()))
    assert card is not None and d.node.complaints.serial_to_note(card.id, serial) == serial
    work = d.node.devices.add_known("Mesin", "a45e60123456", "harian", "other", None, "WAISAI")
    d.do(work)
    hidden = next(iter(d.node.devices.hidden_cards))
    assert d.node.complaints.serial_to_note(hidden, "A009-01") is None


def test_every_page_leads_to_the_form(d: Desk) -> None:
    for path in ("/", "/terms", "/privacy", "/status", "/complaint"):
        page = Browser().get(d.url + path)
        assert page.links["Lapor masalah"].startswith("/complaint")


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({"desa": ""}, "Pilih desa Anda dulu."),
        ({"desa": "NIHIL"}, "Pilih desa Anda dulu."),
        ({"masalah": ""}, "Pilih masalahnya dulu."),
        ({"masalah": "<b>"}, "Pilih masalahnya dulu."),
        ({"words": " \n "}, "Ceritakan masalahnya dulu."),
        ({"words": "x" * (WORDS_LONGEST + 1)}, "Cerita Anda terlalu panjang: 501 huruf."),
        ({"kontak": "0" * (CONTACT_LONGEST + 1)}, "Nama atau nomor HP terlalu panjang."),
    ],
)
def test_a_slip_is_said_and_what_was_typed_stays(
    shared: Desk, typed: dict[str, str], sentence: str
) -> None:
    page = Phone().tell(shared, **{"words": "Lampu alat mati.", "kontak": CONTACT, **typed})
    assert page.status == 200 and sentence in page.alert
    if "words" not in typed:
        assert "Lampu alat mati." in page.html
    if "kontak" not in typed:
        assert CONTACT in page.html
    assert shared.node.complaints.waiting([1, 2]) == (0, 0)


def test_long_words_in_any_script_arrive(d: Desk) -> None:
    words = "海" * WORDS_LONGEST
    page = Phone().tell(d, words)
    assert "Keluhan Anda sudah diterima." in page.text
    found = d.call(lambda: d.node.complaints.one(1))
    assert found is not None and found.words == words


def test_a_body_larger_than_any_form_is_refused(d: Desk) -> None:
    page = Browser().post(d.url + PATH, {"pesan": "x" * 20_000})
    assert page.status == 413 and "Isian terlalu panjang." in page.text


def test_a_form_without_a_good_seal_is_shown_again_with_the_words(d: Desk) -> None:
    phone = Phone()
    form = phone.get(d.url + PATH)
    d.pass_time(FORM_LIFE_S + 1)
    fields = {"desa": "TANJUNG", "masalah": "slow", "pesan": "Lambat sekali.", "kontak": ""}
    page = phone.submit(form, **fields)
    assert "Halaman ini sudah lama terbuka." in page.alert and "Lambat sekali." in page.html
    # Another phone's form, or none at all, takes nothing either.
    other = Phone("10.20.30.2").submit(phone.get(d.url + PATH), **fields)
    assert "Halaman ini sudah lama terbuka." in other.alert
    assert "Tekan Kirim sekali lagi." in phone.post(d.url + PATH, fields).alert
    assert d.node.complaints.waiting([1]) == (0, 0)
    assert "Keluhan Anda sudah diterima." in phone.submit(page, **fields).text


def test_a_form_sent_twice_is_one_complaint(d: Desk) -> None:
    phone = Phone()
    numbers = {number_on(phone.tell(d, "Sama saja.")) for _ in range(3)}
    assert len(numbers) == 1 and d.node.complaints.waiting([1]) == (1, 0)


def test_one_phone_cannot_fill_the_box_and_others_still_can_tell(d: Desk) -> None:
    phone = Phone()
    for n in range(CLIENT_MOST):
        assert "sudah diterima" in phone.tell(d, f"Masalah {n}").text
    page = phone.tell(d, "Satu lagi")
    assert page.status == 429 and "Tunggu 1 jam, lalu coba lagi." in page.alert
    assert page.headers["retry-after"] == "3600" and "Satu lagi" in page.html
    assert "sudah diterima" in Phone("10.20.30.2").tell(d, "Dari HP lain").text
    d.pass_time(HOUR_S)
    assert "sudah diterima" in phone.tell(d, "Satu lagi").text


def test_a_site_takes_so_many_an_hour(d: Desk) -> None:
    for n in range(SITE_MOST):
        assert "sudah diterima" in Phone(f"10.20.40.{n}").tell(d, f"Masalah {n}").text
    assert Phone("10.20.41.1").tell(d, "Terlalu banyak").status == 429
    assert "sudah diterima" in Phone("10.20.41.1").tell(d, "Di Waisai", desa="WAISAI").text


def test_a_full_box_says_whom_to_ask(d: Desk) -> None:
    for n in range(WAITING_MOST):
        d.node.complaints._waiting[10_000 + n] = (1, d.node.now())
    page = Phone().tell(d)
    assert "Kotak keluhan sedang penuh." in page.alert
    assert "Hubungi petugas langsung" in page.alert


def test_a_number_without_its_key_shows_nothing_and_guessing_is_limited(d: Desk) -> None:
    number = number_on(Phone().tell(d))
    key = int(number[-4:])
    guesser = Phone("10.20.30.9")
    for n in range(LOOKS_MOST):
        page = guesser.look_up(d, f"K-0001-{(key + 1 + n) % 10_000:04d}")
        assert page.status == 200 and "Nomor keluhan ini tidak ada." in page.alert
    page = guesser.look_up(d, number)
    assert page.status == 429 and "lalu coba lagi" in page.alert
    assert "sudah diterima" in Phone("10.20.30.8").look_up(d, number).text
    d.pass_time(601)
    assert "sudah diterima" in guesser.look_up(d, number).text


@pytest.mark.parametrize("asked", ["", "K-0001", "%00", "1" * 40, "K-9999-1234", "<script>"])
def test_any_other_number_is_no_error_of_ours(shared: Desk, asked: str) -> None:
    assert "Nomor keluhan ini tidak ada." in Phone().look_up(shared, asked).alert
    if asked:
        assert (
            Phone().get(f"{shared.url}{PATH}/{asked.replace('<', '').replace('>', '')}").status
            == 200
        )


# --- the desk


def test_a_late_one_is_marked_by_shape_and_word_and_stands_first(d: Desk) -> None:
    phone = Phone()
    phone.tell(d, "Yang pertama.")
    d.pass_time(20 * HOUR_S)
    phone.tell(d, "Yang kedua.")
    d.pass_time(5 * HOUR_S)
    page = d.sign_in("sari").get(DESK)
    assert "2 keluhan menunggu jawaban. ■ 1 terlambat." in page.text
    assert "■ Terlambat 1 jam" in page.text and "● Sisa 19 jam" in page.text
    assert page.text.index("K-0001") < page.text.index("K-0002")
    assert d.node.complaints.waiting([1]) == (2, 1) and d.node.complaints.waiting([2]) == (0, 0)
    d.pass_time(14 * HOUR_S)
    assert "▲ Sisa 5 jam" in d.sign_in("sari").get(DESK).text
    late = phone.look_up(d, _full(d, 1))
    assert "Keluhan Anda belum dijawab." in late.text and "lebih dari 24 jam" in late.text


def _full(d: Desk, complaint_id: int) -> str:
    return d.call(lambda: d.node.complaints.full_number(complaint_id))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [("  ", "Tulis jawabannya dulu."), ("x" * 501, "Jawaban terlalu panjang: 501 huruf.")],
)
def test_a_mistake_in_an_answer_is_said(d: Desk, words: str, sentence: str) -> None:
    Phone().tell(d)
    sari = d.sign_in("sari")
    page = sari.submit(sari.get(f"{DESK}/K-0001"), words=words)
    assert page.status == 400 and sentence in page.alert
    assert words.strip() in page.html and d.node.complaints.waiting([1]) == (1, 0)


def test_two_operators_answer_and_the_second_is_told_who_was_first(d: Desk) -> None:
    Phone().tell(d)
    sari, kepala = d.sign_in("sari"), d.sign_in("kepala")
    form = kepala.get(f"{DESK}/K-0001")
    sari.submit(sari.get(f"{DESK}/K-0001"), words="Jawaban pertama.")
    page = kepala.submit(form, words="Jawaban kedua.")
    assert page.status == 400 and "sudah dijawab oleh sari" in page.alert
    assert "Jawaban pertama." in page.text and "Jawaban kedua." in page.text
    assert [deed["action"] for deed in d.deeds()].count("complaint.answer") == 1


def test_a_complaint_of_another_site_does_not_exist(d: Desk) -> None:
    Phone().tell(d)
    wayan = d.sign_in("wayan")
    assert "K-0001" not in wayan.get(DESK).text
    for path in (f"{DESK}/K-0001", f"{DESK}/K-9999", f"{DESK}/x"):
        assert wayan.get(path).status == 404
    answer = wayan.send(f"{DESK}/K-0001", {"csrf": wayan.csrf(), "words": "Tidak boleh."})
    assert answer.status == 404 and d.node.complaints.waiting([1]) == (1, 0)


def test_a_reviewer_reads_it_without_the_contact_and_cannot_answer(d: Desk) -> None:
    Phone().tell(d, kontak=CONTACT)
    tinjau = d.sign_in("tinjau")
    page = tinjau.get(f"{DESK}/K-0001")
    assert "Mati sejak pagi." in page.text and "Hanya untuk petugas" in page.text
    assert "Rusli" not in page.html and "Kirim jawaban" not in page.text
    answer = tinjau.send(f"{DESK}/K-0001", {"csrf": tinjau.csrf(), "words": "Tidak boleh."})
    assert answer.status == 403


def test_many_complaints_stand_on_pages_within_the_budget(d: Desk) -> None:
    async def fill() -> None:
        for n in range(40):
            await d.node.complaints._store.add(
                site_id=1,
                category="place",
                words=f"{n} " + "kata " * 90,
                contact="",
                serial=None,
                at=d.node.now() + n,
            )
        for n in range(1, 21):
            await d.node.complaints.answer(n, 1, "Ya.", by="sari")

    d.do(fill())
    sari = d.sign_in("sari")
    page = sari.get(DESK)
    assert len(page.body) < 30_000
    assert "20 keluhan" in page.text and "K-0021" in page.text and "K-0036" not in page.text
    assert "K-0036" in sari.click(page, "Halaman berikutnya").text
    assert "K-0001" in sari.click(page, "Yang lebih lama").text


def test_contact_and_card_are_erased_with_the_other_personal_parts(tmp_path: Path) -> None:
    variables = {
        "PESISIR_PRIVACY_PERSONAL_DAYS": "30",
        "PESISIR_HTTP_TRUSTED_PROXIES": f'["{PROXY}"]',
    }
    with desk(tmp_path, variables=variables) as d:
        form = Phone().get(d.url + PATH)
        assert "Dihapus setelah 30 hari." in form.text
        Phone().tell(d, kontak=CONTACT)
        d.do(d.node.store.database.write([("UPDATE complaint SET serial = 'A001-01'", [()])]))
        d.pass_time(30 * 86_400)
        d.do(d.node.retention.forget())
        kept = d.call(lambda: d.node.complaints.one(1))
        assert kept is not None and kept.contact == CONTACT and kept.serial == "A001-01"
        # Whole days go, so that one day is one record.
        d.pass_time(86_400)
        d.do(d.node.retention.forget())
        left = d.call(lambda: d.node.complaints.one(1))
        assert left is not None and left.contact == "" and left.serial is None
        assert left.words == "Mati sejak pagi." and left.created_at == kept.created_at
        assert "Tidak diisi" in d.sign_in("sari").get(f"{DESK}/K-0001").text
