"""Making, fetching and printing again many cards at the desk, as an operator's browser sees it."""

import gzip
import io
import re
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from PIL import Image

from portal.domain.voucher import show
from portal.sheets.job import State
from portal.web.operator import sheets
from tests.unit import print_samples as samples
from tests.unit.web.desk import Desk, Person, desk
from tests.unit.web.village import Page


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("desk")) as found:
        found.set_profile("keluarga", data_total="2GB", valid="7d")
        yield found


@pytest.fixture
def sari(place: Desk) -> Person:
    return place.enter("sari")


def form(person: Person) -> Page:
    return person.get("/operator/sheets?site=TANJUNG")


def make(person: Person, **typed: str) -> Page:
    """Send the form and refresh until the sheet is ready."""
    fields: dict[str, Any] = {"profile": "keluarga", "count": "2", "layout": "58mm"} | typed
    page = person.submit(form(person), **fields)
    return ready(person, page)


def ready(person: Person, page: Page) -> Page:
    for _ in range(300):
        if "Perbarui" not in page.links:
            return page
        time.sleep(0.1)
        page = person.click(page, "Perbarui")
    raise AssertionError(f"the sheet is not ready: {page.text[:500]}")


def pdf(person: Person, page: Page) -> Page:
    return person.request("GET", urljoin(page.url, page.links["Unduh PDF"]))


def count_cards(place: Desk) -> int:
    rows = place.call(lambda: place.node.store.database.all("SELECT COUNT(*) AS n FROM voucher"))
    return int(rows[0]["n"])


def codes_in(document: bytes) -> list[str]:
    pages = samples.rendered(document, 203)
    return sorted(url.rpartition("/")[2] for page in pages for url in samples.decoded(page))


# --- a new sheet


def test_forty_cards_are_made_with_what_was_typed(place: Desk, sari: Person) -> None:
    page = make(sari, count="40", note="Posyandu Mei", use_before="2027-01-31", layout="a4-40")
    assert "Siap diunduh" in page.text and "40 kartu, A4, 40 kartu kecil" in page.text
    found = pdf(sari, page)
    assert found.status == 200 and found.headers["content-type"] == "application/pdf"
    assert found.headers["cache-control"] == "no-store"
    assert re.fullmatch(
        r'attachment; filename="kartu-[A-Z][0-9]{3}-a4-40\.pdf"',
        found.headers["content-disposition"],
    )
    words = samples.words_of(found.body)
    for said in (
        "WiFi Desa Tanjung",
        "2 GB dan 7 hari sejak pertama dipakai.",
        "Mulai dipakai paling lambat 31 Januari 2027.",
        "Posyandu Mei",
        f"Cek sisa: {place.url}/",
    ):
        assert said in words, said
    codes = codes_in(found.body)
    assert len(set(codes)) == 40
    for code in codes:
        assert show(code) in words
        shown = place.shown(code)
        assert (shown["state"], shown["profile"]) == ("unused", "keluarga")
        assert shown["serial"] in words
    deed = place.last_deed()
    assert (deed["action"], deed["operator"], deed["details"]) == (
        "voucher.issue",
        "sari",
        "40 x keluarga",
    )


def test_the_form_remembers_forty_and_the_profile_given_last(place: Desk) -> None:
    wayan = place.enter("wayan")
    place.do(place.node.vouchers.give("keluarga", site="WAISAI", by="wayan"))
    page = wayan.get("/operator/sheets")
    assert page.fields["count"] == "40"
    assert re.search(r'<option value="keluarga" selected', page.html)
    assert re.search(r'value="a4-40" checked', page.html)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({"count": "0"}, "Jumlah kartu 0 tidak bisa."),
        ({"count": "10001"}, "Jumlah kartu 10.001 tidak bisa. Pilih 1 sampai 10.000."),
        ({"count": "-5"}, "Jumlah kartu harus angka"),
        ({"count": "empat"}, "Jumlah kartu harus angka"),
        ({"count": ""}, "Jumlah kartu harus angka"),
        ({"count": "9" * 5_000}, "Jumlah kartu harus angka"),
        ({"use_before": "2026-11-20"}, "Tanggal 2026-11-20 sudah lewat."),
        ({"use_before": "31/02/2027"}, "bukan tanggal"),
        ({"use_before": "besok"}, "bukan tanggal"),
        ({"profile": "raja"}, 'Jenis kartu "raja" tidak ada.'),
        ({"layout": "a5"}, "Pilih kertas dari daftar."),
        ({"layout": ""}, "Pilih kertas dari daftar."),
        ({"note": "x" * 201}, "Catatan terlalu panjang"),
    ],
)
def test_a_bad_form_says_what_is_wrong_and_makes_no_card(
    place: Desk, sari: Person, typed: dict[str, str], sentence: str
) -> None:
    before = count_cards(place)
    usual = {"profile": "keluarga", "count": "2", "layout": "58mm", "note": "tetap ada"}
    fields: dict[str, Any] = usual | typed
    page = sari.submit(form(sari), **fields)
    assert sentence in page.alert and page.status == 200
    assert page.url.endswith("/operator/sheets")
    assert 'aria-invalid="true"' in page.html
    if "note" not in typed:
        assert page.fields["note"] == "tetap ada"
    assert count_cards(place) == before
    assert all(job.state is not State.FAILED for job in place.node.prints.jobs(1))


@pytest.mark.parametrize("typed", ["2", " 2 ", "\uff12"])
def test_numbers_are_taken_as_people_type_them(place: Desk, sari: Person, typed: str) -> None:
    before = count_cards(place)
    make(sari, count=typed)
    assert count_cards(place) == before + 2


def test_a_thousand_may_have_a_dot_and_a_date_slashes(place: Desk, sari: Person) -> None:
    page = sari.submit(
        form(sari), profile="keluarga", count="10.001", use_before="1/2/2027", layout="58mm"
    )
    assert "Jumlah kartu 10.001 tidak bisa." in page.alert
    make(sari, use_before="1/2/2027")
    rows = place.call(
        lambda: place.node.store.database.all(
            "SELECT use_before_at FROM voucher ORDER BY id DESC LIMIT 1"
        )
    )
    assert rows[0]["use_before_at"] == 1_801_497_600  # 2 February 2027, 0.00 WITA


def test_a_form_sent_twice_at_once_makes_the_cards_once(place: Desk, sari: Person) -> None:
    before = count_cards(place)
    fields = {**form(sari).fields, "profile": "keluarga", "count": "3", "layout": "58mm"}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: sari.send("/operator/sheets", fields), range(4)))
    assert {answer.status for answer in answers} == {303}
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert count_cards(place) == before + 3


def test_the_file_lies_where_only_the_node_can_read_it(place: Desk, sari: Person) -> None:
    make(sari)
    directory = Path(place.node.directory) / "print"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for file in directory.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_nobody_of_another_site_and_no_reviewer_gets_the_file(place: Desk, sari: Person) -> None:
    page = make(sari)
    path = urljoin(page.url, page.links["Unduh PDF"])
    for name, status in (("wayan", 404), ("tinjau", 403), ("dinas", 403), ("kepala", 200)):
        found = place.enter(name).request("GET", path)
        assert found.status == status, name
        assert (b"%PDF" in found.body) == (status == 200)
    assert Person(place, "nobody").request("GET", path).status == 303
    assert sari.request("GET", "/operator/sheets/job/" + "x" * 24).status == 404


def test_an_hour_after_the_download_the_file_is_gone(tmp_path: Path) -> None:
    with desk(tmp_path) as place:
        sari = place.enter("sari")
        page = make(sari, profile="harian")
        assert "Berkas dihapus 24 November 2026" in page.text
        assert pdf(sari, page).status == 200
        assert "Berkas dihapus hari ini pukul 13.00 WITA" in sari.get(page.url).text
        place.pass_time(3_601)
        sari = place.enter("sari")
        assert pdf(sari, page).status == 404
        assert list((tmp_path / "print").iterdir()) == []


def test_a_big_batch_is_told_step_by_step_and_the_desk_goes_on(
    place: Desk, sari: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheets, "SOON_S", 0.05)
    page = sari.submit(form(sari), profile="keluarga", count="1.000", layout="a4-40")
    assert "/operator/sheets/job/" in page.url
    seen = set()
    give_up_s = time.monotonic() + 120
    while "Perbarui" in page.links and time.monotonic() < give_up_s:
        assert "http-equiv" not in page.html
        found = re.search(r"([0-9.]+) dari 1\.000 kartu", page.text)
        if found:
            seen.add(found[1])
        # Another page between two of these, while the sheet is not ready yet.
        assert sari.get("/operator/me").status == 200
        time.sleep(0.05)
        page = sari.click(page, "Perbarui")
    assert "Siap diunduh" in page.text and "1.000 kartu" in page.text
    assert len(seen) > 2
    assert pdf(sari, page).body.startswith(b"%PDF")
    assert "1.000 kartu" in sari.get("/operator/sheets").text


# --- once more


def test_a_sheet_printed_again_belongs_to_the_site_of_its_cards(place: Desk, sari: Person) -> None:
    batch = re.search(r"Cetak ([A-Z][0-9]{3})", make(sari).text)
    assert batch is not None
    kepala = place.enter("kepala")
    kepala.get("/operator/?site=WAISAI")
    page = ready(kepala, kepala.submit(kepala.get(f"/operator/sheets/{batch[1]}")))
    path = urljoin(page.url, page.links["Unduh PDF"])
    wayan = place.enter("wayan")
    assert wayan.request("GET", path).status == 404
    assert batch[1] not in wayan.get("/operator/sheets").text
    assert sari.request("GET", path).body.startswith(b"%PDF")


def test_a_sheet_is_printed_again_unchanged_without_cards_that_are_out(
    place: Desk, sari: Person
) -> None:
    page = make(sari, count="4")
    first = codes_in(pdf(sari, page).body)
    batch = re.search(r"Cetak ([A-Z][0-9]{3})", page.text)
    assert batch is not None
    place.do(place.node.vouchers.confirm_given(f"{batch[1]}-02", by="sari"))
    again = sari.get(f"/operator/sheets/{batch[1]}")
    assert "Kode tetap sama" in again.text
    page = ready(sari, sari.submit(again, layout="80mm"))
    given = samples.words_of(pdf(sari, page).body)
    assert f"{batch[1]}-02" not in given and f"{batch[1]}-03" in given
    second = codes_in(pdf(sari, page).body)
    assert len(second) == 3 and set(second) < set(first)
    deed = place.last_deed()
    assert (deed["action"], deed["object"], deed["details"]) == (
        "voucher.print",
        batch[1],
        "3 of 4 cards",
    )


def test_after_72_hours_the_page_says_that_only_new_codes_help(tmp_path: Path) -> None:
    with desk(tmp_path) as place:
        sari = place.enter("sari")
        page = make(sari, profile="harian")
        form_before = sari.get("/operator/sheets/A001")
        place.pass_time(72 * 3_600)
        sari = place.enter("sari")
        page = sari.get("/operator/sheets/A001")
        assert "Sudah lewat 72 jam" in page.text and "Cetak ulang" not in page.fields
        fields = {**form_before.fields, "layout": "58mm", "csrf": sari.csrf()}
        answer = sari.follow(sari.send("/operator/sheets/A001", fields))
        assert "A001" in answer.alert and answer.status == 200


def test_an_unknown_batch_or_one_of_another_site_does_not_exist(place: Desk, sari: Person) -> None:
    other = place.do(place.node.vouchers.issue("keluarga", count=2, site="WAISAI"))["batch"]
    for name in ("Z999", "A1", "%2e%2e", other):
        assert sari.request("GET", f"/operator/sheets/{name}").status == 404
        assert sari.request("GET", f"/operator/sheets/{name}/page").status == 404


def test_the_page_for_the_browser_has_every_card_and_is_small_when_packed(
    place: Desk, sari: Person
) -> None:
    issued = place.do(place.node.vouchers.issue("keluarga", count=40, site="TANJUNG"))
    path = f"/operator/sheets/{issued['batch']}/page"
    packed = sari.request("GET", f"{path}?layout=a4-40", headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip" and len(packed.body) < 20_000
    html = gzip.decompress(packed.body).decode()
    plain = sari.request("GET", path)
    assert plain.html == html and plain.headers.get("content-encoding") is None
    for card in issued["vouchers"]:
        for part in (card["code"][:4], card["code"][4:8], card["code"][8:], card["serial"]):
            assert f">{part}</text>" in html
    assert html.count('<path transform="') == 40
    assert "@page{size:A4" in html and "<script" not in html
    assert sari.request("GET", f"{path}?layout=58mm").status == 404
    large = place.do(place.node.vouchers.issue("keluarga", count=211, site="TANJUNG"))["batch"]
    answer = sari.get(f"/operator/sheets/{large}/page")
    assert answer.status == 400 and "211 kartu" in answer.alert


# --- one card, and the poster


def test_one_card_becomes_a_ticket_while_its_copy_lives(tmp_path: Path) -> None:
    with desk(tmp_path) as place:
        sari = place.enter("sari")
        given = place.do(place.node.vouchers.give("harian", site="TANJUNG", by="sari"))
        ticket = f"/operator/cards/{given['serial']}/ticket"
        page = sari.get(ticket)
        assert given["code"] not in page.html
        links = [link for link in page.links.values() if link.startswith(f"{ticket}/")]
        assert len(links) == 3
        for link in links:
            found = sari.request("GET", link)
            assert found.status == 200 and found.headers["cache-control"] == "no-store"
            if link.endswith(".png"):
                image = Image.open(io.BytesIO(found.body))
                assert image.width == 384
                assert samples.decoded(image.convert("L")) == [given["url"]]
            else:
                assert codes_in(found.body) == [given["code"]]
        deed = place.last_deed()
        assert (deed["action"], deed["object"]) == ("voucher.show_code", given["serial"])
        for kind in ("80mm.png", "a4-40.pdf", "58mm.gif", "58mm", "..."):
            assert sari.request("GET", f"{ticket}/{kind}").status == 404
        for name, status in (("wayan", 404), ("tinjau", 403)):
            assert place.enter(name).request("GET", links[0]).status == status
        place.pass_time(72 * 3_600)
        late = place.enter("sari").get(links[0])
        assert late.status == 400 and given["serial"] in late.alert


def test_the_poster_follows_the_sites_settings(tmp_path: Path) -> None:
    with desk(tmp_path) as place:
        sari = place.enter("sari")
        page = sari.get("/operator/poster?site=TANJUNG")
        assert "Belum diisi" in page.text
        place.do(
            place.node.admin.set_site(
                "TANJUNG",
                {
                    "wifi_name": "Tanjung;1",
                    "counter": "Kantor Desa",
                    "opening_hours": "08:00-15:00",
                    "power_window": "18:00-23:00",
                },
            )
        )
        page = sari.get("/operator/poster")
        assert "Belum diisi" not in page.text
        for paper, high in (("a4", 842), ("a3", 1191)):
            found = sari.request("GET", f"/operator/poster/{paper}.pdf")
            (image,) = samples.rendered(found.body, 72)
            assert abs(image.height - high) <= 1
            assert samples.decoded(samples.rendered(found.body, 150)[0]) == [
                "WIFI:T:nopass;S:Tanjung\\;1;;"
            ]
            words = samples.words_of(found.body)
            for said in ("Tanjung;1", "Kantor Desa, pukul 08.00", f"{place.url}/", "18.00"):
                assert said in words, said
        assert sari.request("GET", "/operator/poster/a5.pdf").status == 404
        assert place.enter("tinjau").request("GET", "/operator/poster/a4.pdf").status == 200


def test_cards_are_printed_in_indonesian_for_an_operator_who_reads_english(
    place: Desk, sari: Person
) -> None:
    sari.get("/operator/sheets?lang=en")
    page = sari.submit(form(sari), profile="keluarga", count="2", layout="58mm")
    while "Refresh" in page.links:
        page = sari.click(page, "Refresh")
    assert "Ready to download" in page.text
    found = sari.request("GET", urljoin(page.url, page.links["Download the PDF"]))
    words = samples.words_of(found.body)
    assert "GRATIS" in words and "Matikan data seluler." in words and "FREE" not in words
