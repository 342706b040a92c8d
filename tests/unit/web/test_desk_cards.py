"""Finding cards and changing them: every change with a reason, and never by mistake."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from portal.domain.voucher import State
from portal.practice.gateway import PracticeGateway
from portal.practice.phone import Phone
from portal.store.batches import BatchStore
from tests.unit.web.desk import Desk, Person, desk, forms_of
from tests.unit.web.village import Browser, Page, open_internet


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("node")) as found:
        found.set_profile("keluarga", data_total="2GB", valid="7d")
        found.set_profile("bebas")
        yield found


@pytest.fixture
def sari(place: Desk) -> Person:
    return place.sign_in("sari")


def issue(place: Desk, profile: str = "keluarga", **options: Any) -> tuple[str, str]:
    return place.issue(profile, site="TANJUNG", **options)


def log_in(place: Desk, code: str) -> tuple[PracticeGateway, Phone, Page]:
    """A phone of its own types the code."""
    gateway = place.add_gateway(site="TANJUNG")
    phone, browser = gateway.phones[0], Browser()
    return gateway, phone, browser.submit(open_internet(browser, gateway, phone), kode=code)


def use(place: Desk, code: str, octets: int) -> tuple[PracticeGateway, Phone]:
    gateway, phone, page = log_in(place, code)
    assert "Berhasil." in page.text, page.text
    place.do(gateway.download(phone, octets))
    place.do(gateway.interim(phone))
    return gateway, phone


def plain(page: Page) -> str:
    return page.text.replace("\xa0", " ")


def act(person: Person, serial: str, action: str, **typed: Any) -> Page:
    page = person.get(f"/operator/cards/{serial}/{action}")
    assert page.status == 200, page.text
    return person.submit(page, **typed)


def last_deed(place: Desk) -> tuple[str, str, str, str]:
    deed = place.last_deed()
    return deed["action"], deed["object"], deed["operator"], deed["reason"]


# --- finding ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed", ["4829 1730 551", "48291730", "02:aa:bb:cc:dd:01", "4829 1730 5516"]
)
def test_what_opens_a_card_or_names_a_phone_stands_in_no_address(
    place: Desk, sari: Person, typed: str
) -> None:
    page = sari.submit(sari.get("/operator/cards"), q=typed)
    assert page.status == 200 and 'role="alert"' in page.html
    assert page.url.endswith("/operator/cards/search")
    # What is not found may be shown as it was typed, so that it can be put right.
    assert sari.submit(sari.get("/operator/cards"), q="Budi").url.endswith("?q=Budi")


def test_a_card_is_found_by_serial_last_four_and_code(place: Desk, sari: Person) -> None:
    code, serial = issue(place)
    find = sari.get("/operator/cards")
    bare = serial.replace("-", "").lower()
    for typed in (
        serial,
        serial.lower(),
        bare,
        code[-4:],
        code,
        f"{code[:4]} {code[4:8]} {code[8:]}",
    ):
        page = sari.submit(find, q=typed)
        assert f"Kartu {serial}" in page.text, f"{typed}: {page.text}"
        assert code not in page.url


def test_several_cards_with_the_same_last_four_are_listed(place: Desk, sari: Person) -> None:
    (code, first), (_, second) = issue(place), issue(place)
    place.do(set_last4(place, second, code[-4:]))
    page = sari.submit(sari.get("/operator/cards"), q=code[-4:])
    assert first in page.links and second in page.links
    assert "Kartu yang cocok" in page.text


async def set_last4(place: Desk, serial: str, last4: str) -> None:
    async with place.node.store.database.transaction() as transaction:
        await transaction.run("UPDATE voucher SET last4 = ? WHERE serial = ?", (last4, serial))


def test_a_batch_is_found_by_its_name(place: Desk, sari: Person) -> None:
    made = place.do(place.node.vouchers.issue("keluarga", count=3, site="TANJUNG"))
    page = sari.submit(sari.get("/operator/cards"), q=made["batch"].lower())
    assert page.url.endswith(f"/operator/batches/{made['batch']}")


@pytest.mark.parametrize(
    "typed", ["Z999-99", "0000", "482917305515", "Pak Rusli", "<b>", "%", "A" * 64, "9" * 30]
)
def test_what_is_not_there_is_said_beside_the_field(sari: Person, typed: str) -> None:
    page = sari.submit(sari.get("/operator/cards"), q=typed)
    assert page.status == 200
    assert "Tidak ada kartu" in page.alert or "tidak ada" in page.alert
    assert 'aria-invalid="true"' in page.html
    if typed == "482917305515":
        assert typed not in page.url
    else:
        assert dict(forms_of(page)[0].fields)["q"] == typed


def test_phones_that_just_tried_are_listed_with_why_they_were_refused(
    place: Desk, sari: Person
) -> None:
    code, serial = issue(place)
    _, revoked = issue(place)
    place.do(place.node.vouchers.revoke([revoked], "hilang"))
    use(place, code, 2_100_000_000)
    gateway, phone, page = log_in(place, code)
    assert "Berhasil." not in page.text
    page = sari.get("/operator/cards")
    assert f"{serial} HP " in page.text
    assert "data habis" in page.text
    place.pass_time(301)
    later = sari.get("/operator/cards")
    assert "data habis" not in later.text


def test_cards_of_another_site_are_not_found(place: Desk, sari: Person) -> None:
    code, serial = place.issue("keluarga", site="WAISAI")
    find = sari.get("/operator/cards")
    for typed in (serial, code, code[-4:], serial.split("-")[0]):
        page = sari.submit(find, q=typed)
        assert serial not in page.links
        assert page.alert
    for action in ("", "/revoke", "/replace", "/top-up", "/extend", "/block"):
        assert sari.get(f"/operator/cards/{serial}{action}").status == 404
    assert sari.get(f"/operator/batches/{serial.split('-')[0]}").status == 404
    csrf = sari.csrf()
    for action in ("revoke", "replace", "top-up", "extend", "block"):
        answer = sari.send(
            f"/operator/cards/{serial}/{action}",
            {"csrf": csrf, "reason": "x", "digits": serial[-2:], "days": "1", "data": "1"},
        )
        assert answer.status == 404
    assert place.shown(serial)["state"] == "unused"


# --- the card -----------------------------------------------------------------------------------


def test_a_card_shows_its_quota_sessions_and_history(place: Desk, sari: Person) -> None:
    made = place.do(place.node.vouchers.give("keluarga", site="TANJUNG", by="sari"))
    serial = made["serial"]
    gateway, phone = use(place, made["code"], 500_000_000)
    page = sari.get(f"/operator/cards/{serial}")
    text = plain(page)
    assert "Masih berlaku" in text
    assert "1,5 GB dari 2 GB." in text
    assert "500 MB" in text
    assert "pos-" in text
    assert "masih tersambung" in text
    assert "Memberi kartu" in text and "sari" in text
    assert made["code"] not in page.html
    assert f"**** **** {made['code'][-4:]}" in text
    # Enough of the phone to tell two apart, and no more.
    assert f"{phone.mac[-4:-2]}:{phone.mac[-2:]}" in text
    assert phone.mac not in page.html
    place.do(gateway.logoff(phone))
    assert "selesai" in sari.get(f"/operator/cards/{serial}").text


def test_a_reviewer_sees_the_card_without_buttons_and_phones(place: Desk) -> None:
    code, serial = issue(place)
    use(place, code, 1_000_000)
    tinjau = place.sign_in("tinjau")
    page = tinjau.get(f"/operator/cards/{serial}")
    assert page.status == 200
    assert "Masih berlaku" in page.text
    assert "Batalkan kartu" not in page.text and "Blokir" not in page.text
    assert "HP yang baru mencoba" not in tinjau.get("/operator/cards").text
    for action in ("revoke", "replace", "top-up", "extend", "block"):
        assert tinjau.get(f"/operator/cards/{serial}/{action}").status == 403
        answer = tinjau.send(
            f"/operator/cards/{serial}/{action}",
            {"csrf": tinjau.csrf(), "reason": "x", "digits": serial[-2:]},
        )
        assert answer.status == 403
    assert place.shown(serial)["state"] == "active"


# --- revoking -----------------------------------------------------------------------------------


def test_revoking_asks_for_the_last_two_digits(place: Desk, sari: Person) -> None:
    code, serial = issue(place)
    before = len(place.deeds())
    for wrong in ("", "99", "1", serial, "O1", "001"):
        page = act(sari, serial, "revoke", reason="Hilang di pasar", digits=wrong)
        assert page.status == 200
        assert f"tidak cocok dengan {serial}" in page.alert
        assert dict(forms_of(page)[0].fields)["reason"] == "Hilang di pasar"
        assert 'id="f-digits"' in page.html and "aria-invalid" in page.html
    assert place.shown(serial)["state"] == "unused"
    assert len(place.deeds()) == before
    page = act(sari, serial, "revoke", reason="Hilang di pasar", digits=serial[-2:])
    assert f"Kartu {serial} sudah dibatalkan." in page.text
    assert "Alasan: Hilang di pasar" in page.text
    assert last_deed(place) == ("voucher.revoke", serial, "sari", "Hilang di pasar")
    assert "sudah dibatalkan" in log_in(place, code)[2].text


def test_revoking_cuts_the_session(place: Desk, sari: Person) -> None:
    code, serial = issue(place)
    gateway, phone = use(place, code, 1_000_000)
    act(sari, serial, "revoke", reason="Dipakai bersama", digits=serial[-2:])
    place.do(gateway.settled())
    assert not phone.is_online


@pytest.mark.parametrize("action", ["revoke", "replace"])
def test_a_reason_is_needed(place: Desk, sari: Person, action: str) -> None:
    _, serial = issue(place)
    for reason in ("", "   ", "x" * 201):
        page = act(sari, serial, action, reason=reason, digits=serial[-2:])
        assert page.status == 200
        assert "lasan" in page.alert
        assert 'aria-describedby="slip-reason"' in page.html
    assert place.shown(serial)["state"] == "unused"


def test_two_operators_at_once_the_second_is_told_who_did_what(place: Desk, sari: Person) -> None:
    _, serial = issue(place)
    kepala = place.sign_in("kepala")
    hers = sari.get(f"/operator/cards/{serial}/top-up")
    his = kepala.get(f"/operator/cards/{serial}/top-up")
    sari.submit(hers, reason="Sekolah", data="500")
    page = kepala.submit(his, reason="Sekolah anak", data="500")
    assert page.status == 200
    assert f"Kartu {serial} baru saja diubah" in page.alert
    assert "sari" in page.text
    assert dict(forms_of(page)[0].fields)["reason"] == "Sekolah anak"
    assert place.shown(serial)["octets_left"] == 2_500_000_000
    # Having seen it, he can still do it.
    kepala.submit(page, reason="Sekolah anak", data="500")
    assert place.shown(serial)["octets_left"] == 3_000_000_000


def test_what_is_over_is_said_and_not_done_again(place: Desk, sari: Person) -> None:
    _, serial = issue(place)
    pages = {
        action: sari.get(f"/operator/cards/{serial}/{action}")
        for action in ("revoke", "replace", "top-up", "extend")
    }
    act(sari, serial, "revoke", reason="Hilang", digits=serial[-2:])
    deeds = len(place.deeds())
    more: dict[str, Any] = {
        "revoke": {"digits": serial[-2:]},
        "replace": {"digits": serial[-2:]},
        "top-up": {"data": "5"},
        "extend": {"days": "5"},
    }
    for action, page in pages.items():
        refused = sari.submit(page, reason="Hilang", **more[action])
        assert refused.status == 200
        assert serial in refused.alert
    assert len(place.deeds()) == deeds
    assert "Ganti kartu" not in sari.get(f"/operator/cards/{serial}").text


# --- replacing ----------------------------------------------------------------------------------


def test_a_replaced_card_keeps_its_quota_and_the_old_code_dies(place: Desk, sari: Person) -> None:
    code, serial = issue(place)
    gateway, phone = use(place, code, 734_567_891)
    left = place.shown(serial)["octets_left"]
    page = act(sari, serial, "replace", reason="Kartu hilang", digits=serial[-2:])
    new = page.url.partition("?")[0].rpartition("/")[2]
    assert new != serial
    assert "Sisa 1,2 GB" in plain(page)
    assert "dipindahkan ke kartu ini" in page.text
    assert "Tarik kembali" not in page.text
    digits = page.html.partition('<p class="code"')[2].partition("</p>")[0].partition(">")[2]
    new_code = "".join(sign for sign in digits if sign.isdigit())
    place.do(gateway.settled())
    assert not phone.is_online
    assert place.shown(new)["octets_left"] == left == 2_000_000_000 - 734_567_891
    assert place.shown(serial)["state"] == "replaced"
    assert "sudah diganti" in log_in(place, code)[2].text
    assert "Berhasil." in log_in(place, new_code)[2].text
    assert new in sari.get(f"/operator/cards/{serial}").text
    assert serial in sari.get(f"/operator/cards/{new}").text
    page = sari.submit(page)
    assert f"Kartu {new} sudah diberikan." in page.text
    assert new_code not in sari.get(f"/operator/give/{new}").html.replace(" ", "")


# --- more ---------------------------------------------------------------------------------------


def test_a_top_up_makes_a_used_up_card_good_again(place: Desk, sari: Person) -> None:
    code, serial = issue(place)
    use(place, code, 2_000_000_000)
    assert place.shown(serial)["state"] == "used_up"
    assert "Sudah habis" in sari.get(f"/operator/cards/{serial}").text
    assert "Berhasil." not in log_in(place, code)[2].text
    page = act(sari, serial, "top-up", reason="Perlu untuk sekolah", data="1,5", data_unit="GB")
    assert f"Kuota kartu {serial} sudah ditambah." in page.text
    assert "Masih berlaku" in page.text
    assert "+1,5 GB" in plain(page)
    assert place.shown(serial)["octets_left"] == 1_500_000_000
    assert last_deed(place) == ("voucher.top_up", serial, "sari", "Perlu untuk sekolah")
    assert "Berhasil." in log_in(place, code)[2].text


@pytest.mark.parametrize("typed", ["", "0", "-5", "abc", "1e9", "1.500", "1,234", "NaN", "9" * 9])
def test_an_amount_that_is_none_comes_back_beside_its_field(
    place: Desk, sari: Person, typed: str
) -> None:
    _, serial = issue(place)
    page = act(sari, serial, "top-up", reason="Sekolah", data=typed, data_unit="GB")
    assert page.status == 200
    assert page.alert
    fields = dict(forms_of(page)[0].fields)
    assert (fields["data"], fields["data_unit"], fields["reason"]) == (typed, "GB", "Sekolah")
    assert 'aria-describedby="slip-data"' in page.html
    assert place.shown(serial)["octets_left"] == 2_000_000_000


def test_more_than_anybody_means_is_not_added(place: Desk, sari: Person) -> None:
    _, serial = issue(place)
    page = act(sari, serial, "top-up", reason="Sekolah", data="1001", data_unit="GB")
    assert "Paling banyak 1.000 GB sekaligus." in plain(page)
    assert place.shown(serial)["octets_left"] == 2_000_000_000
    act(sari, serial, "top-up", reason="Sekolah", data="1000", data_unit="GB")
    assert place.shown(serial)["octets_left"] == 1_002_000_000_000


def test_time_is_only_offered_where_the_card_has_a_time_quota(place: Desk, sari: Person) -> None:
    _, family = issue(place)
    _, daily = issue(place, "harian")
    _, free = issue(place, "bebas")
    assert 'name="time"' not in sari.get(f"/operator/cards/{family}/top-up").html
    act(sari, daily, "top-up", reason="Rapat", time="30", time_unit="minutes")
    assert place.shown(daily)["seconds_left"] == 2 * 3_600 + 1_800
    page = sari.get(f"/operator/cards/{free}")
    assert "Tambah kuota" not in page.text and "Tambah hari" not in page.text


def test_days_are_added_to_a_card_that_is_over(place: Desk, sari: Person) -> None:
    code, serial = issue(place)
    use(place, code, 1_000_000)
    place.pass_time(8 * 86_400)
    sari = place.sign_in("sari")
    assert "Lewat waktu" in sari.get(f"/operator/cards/{serial}").text
    page = act(sari, serial, "extend", reason="Sakit", days="3")
    assert f"Masa pakai kartu {serial} sudah ditambah." in page.text
    assert place.shown(serial)["state"] == "active"
    assert "+3 hari" in plain(page)
    for typed in ("", "0", "-1", "1,5", "besok", "1001", "9" * 9):
        page = act(sari, serial, "extend", reason="Sakit", days=typed)
        assert page.status == 200 and page.alert, typed
        assert dict(forms_of(page)[0].fields)["days"] == typed


def test_the_phone_of_a_session_is_blocked(place: Desk, sari: Person) -> None:
    code, serial = issue(place)
    gateway, phone = use(place, code, 1_000_000)
    page = sari.get(f"/operator/cards/{serial}")
    page = sari.click(page, "Blokir HP ini")
    assert f"{phone.mac[-4:-2]}:{phone.mac[-2:]}" in page.text
    wrong = sari.submit(page, reason="Mengganggu", digits="77")
    assert "tidak cocok" in wrong.alert
    page = sari.submit(wrong, reason="Mengganggu", digits=serial[-2:])
    assert "HP itu sudah diblokir." in page.text
    site = place.call(lambda: place.node.admin.site("TANJUNG").id)
    assert place.call(lambda: place.node.devices.is_blocked(phone.mac, site))
    place.do(gateway.settled())
    assert not phone.is_online
    assert last_deed(place)[0] == "device.block"
    card = sari.get(f"/operator/cards/{serial}")
    assert "sudah diblokir" in card.text and "Blokir HP ini" not in card.text
    for session in ("", "0", "x", "999999999999"):
        assert sari.get(f"/operator/cards/{serial}/block?session={session}").status == 404


# --- batches ------------------------------------------------------------------------------------


def test_a_batch_counts_what_became_of_its_cards(place: Desk, sari: Person) -> None:
    made = place.do(
        place.node.vouchers.issue("keluarga", count=45, site="TANJUNG", note="Rapat RT", by="sari")
    )
    name, cards = made["batch"], made["vouchers"]
    use(place, cards[0]["code"], 1_000_000)
    use(place, cards[1]["code"], 2_000_000_000)
    place.do(place.node.vouchers.revoke([cards[2]["serial"]], "rusak"))
    place.do(place.node.vouchers.confirm_given(cards[3]["serial"], by="sari"))
    said = "Jumlah 45 · Diberikan 1 · Belum dipakai 42 · Masih berlaku 1"
    said += " · Sudah habis 1 · Dibatalkan 1"
    assert said in sari.get("/operator/batches").text
    page = sari.get(f"/operator/batches/{name}")
    assert said in page.text
    assert "Rapat RT" in page.text
    assert page.html.count('type="checkbox"') == 40
    assert "Halaman 1 dari 2" in page.text
    page = sari.click(page, "Berikutnya")
    assert cards[44]["serial"] in page.links and cards[39]["serial"] not in page.links
    assert len(page.body) < 30_000


def test_counts_agree_with_what_each_card_says(place: Desk) -> None:
    made = place.do(
        place.node.vouchers.issue(
            "keluarga", count=8, site="TANJUNG", use_before="2027-03-31", by="sari"
        )
    )
    serials = [card["serial"] for card in made["vouchers"]]
    codes = [card["code"] for card in made["vouchers"]]
    actions = place.node.vouchers
    use(place, codes[0], 2_000_000_000)
    use(place, codes[1], 2_000_000_000)
    use(place, codes[2], 1_000_000)
    use(place, codes[3], 1_000_000)
    place.do(actions.top_up(serials[1], octets=10**9, reason="Sekolah"))
    place.do(actions.extend(serials[3], seconds=30 * 86_400, reason="Sakit"))
    place.do(actions.revoke([serials[4]], "Rusak"))
    place.do(actions.replace([serials[5]], "Hilang"))
    seen: set[str] = set()
    for days in (0, 8, 200):
        place.pass_time(days * 86_400)
        counted: dict[str, int] = {}
        profiles = place.node.admin.profiles_by_name.values()
        store = BatchStore(place.node.store)
        batch = place.call(lambda: store.batch_of(made["batch"]))  # noqa: B023 - called at once
        assert batch is not None
        now = place.call(place.node.now)
        for row in place.do(store.counted(batch["id"], profiles, now=now)):
            counted[row["state"]] = counted.get(row["state"], 0) + row["cards"]
        assert counted == Counter(place.shown(serial)["state"] for serial in serials)
        seen |= counted.keys()
    assert seen == set(State)


def test_cards_given_one_by_one_are_no_batches(place: Desk, sari: Person) -> None:
    made = place.do(place.node.vouchers.give("keluarga", site="TANJUNG", by="sari"))
    page = sari.get("/operator/batches")
    assert made["serial"].split("-")[0] not in page.text
    assert sari.get(f"/operator/batches/{made['serial'].split('-')[0]}").status == 200


def test_a_selection_is_revoked(place: Desk, sari: Person) -> None:
    made = place.do(place.node.vouchers.issue("keluarga", count=5, site="TANJUNG"))
    name, serials = made["batch"], [card["serial"] for card in made["vouchers"]]
    page = sari.get(f"/operator/batches/{name}")
    none = sari.submit(page, action=f"/operator/batches/{name}/revoke")
    assert "Pilih dulu" in none.alert
    chosen = [("card", serials[1]), ("card", serials[3])]
    page = sari.submit(page, action=f"/operator/batches/{name}/revoke", ticked=chosen)
    assert "Batalkan 2 kartu" in page.text
    assert [place.shown(one)["state"] for one in serials] == ["unused"] * 5
    wrong = sari.submit(page, reason="Salah cetak", digits="99")
    assert f"tidak cocok dengan {name}" in wrong.alert
    page = sari.submit(wrong, reason="Salah cetak", digits=name[-2:])
    assert "2 kartu sudah dibatalkan." in page.text
    states = [place.shown(one)["state"] for one in serials]
    assert states == ["unused", "revoked", "unused", "revoked", "unused"]
    assert {deed["object"] for deed in place.deeds()[-2:]} == {serials[1], serials[3]}


def test_a_whole_batch_is_revoked_but_not_what_is_over(place: Desk, sari: Person) -> None:
    made = place.do(place.node.vouchers.issue("keluarga", count=4, site="TANJUNG"))
    name, serials = made["batch"], [card["serial"] for card in made["vouchers"]]
    gateway, phone = use(place, made["vouchers"][0]["code"], 1_000_000)
    place.do(place.node.vouchers.replace([serials[3]], "hilang"))
    page = sari.click(sari.get(f"/operator/batches/{name}"), "Batalkan semua kartu paket ini")
    assert "Batalkan 3 kartu" in page.text
    page = sari.submit(page, reason="Lembar dicuri", digits=name[-2:])
    assert "3 kartu sudah dibatalkan." in page.text
    assert [place.shown(one)["state"] for one in serials] == ["revoked"] * 3 + ["replaced"]
    place.do(gateway.settled())
    assert not phone.is_online
    assert last_deed(place) == ("voucher.revoke", name, "sari", "Lembar dicuri")
    # Every card of it tells the story.
    assert "Lembar dicuri" in sari.get(f"/operator/cards/{serials[1]}").text
    assert "Batalkan semua" not in sari.get(f"/operator/batches/{name}").text


def test_no_form_revokes_a_batch_by_leaving_the_selection_out(place: Desk, sari: Person) -> None:
    made = place.do(place.node.vouchers.issue("keluarga", count=2, site="TANJUNG"))
    name = made["batch"]
    answer = sari.send(
        f"/operator/batches/{name}/revoke",
        {"csrf": sari.csrf(), "reason": "x", "digits": name[-2:], "card": "A999-01"},
    )
    assert "Pilih dulu" in answer.alert
    assert place.shown(f"{name}-01")["state"] == "unused"


def test_a_range_is_replaced_without_what_people_may_hold(place: Desk, sari: Person) -> None:
    made = place.do(place.node.vouchers.issue("keluarga", count=6, site="TANJUNG"))
    name, serials = made["batch"], [card["serial"] for card in made["vouchers"]]
    place.do(place.node.vouchers.confirm_given(serials[2], by="sari"))
    page = sari.click(sari.get(f"/operator/batches/{name}"), "Ganti beberapa nomor")
    fields = dict(forms_of(page)[0].fields)
    assert (fields["first"], fields["last"]) == (serials[0], serials[5])
    wrong = sari.submit(page, first="dua", last="A999-03", reason="Kertas macet", digits=name[-2:])
    assert "Isi nomor kartu" in wrong.alert
    assert 'aria-describedby="slip-first"' in wrong.html
    assert 'aria-describedby="slip-last"' in wrong.html
    page = sari.submit(
        wrong, first="2", last=serials[3].lower(), reason="Kertas macet", digits=name[-2:]
    )
    assert "2 kartu diganti. 1 kartu dibiarkan" in page.text
    states = [place.shown(one)["state"] for one in serials]
    assert states == ["unused", "replaced", "unused", "replaced", "unused", "unused"]
    assert f"menggantikan {serials[1]}" in page.text
    page = sari.get(f"/operator/batches/{name}/replace?scope=range")
    backwards = sari.submit(
        page, first=serials[4], last=serials[0], reason="Kertas macet", digits=name[-2:]
    )
    assert backwards.status == 200 and backwards.alert


def test_one_chosen_card_replaced_shows_its_code(place: Desk, sari: Person) -> None:
    made = place.do(place.node.vouchers.issue("keluarga", count=2, site="TANJUNG"))
    name, serial = made["batch"], made["vouchers"][0]["serial"]
    page = sari.get(f"/operator/batches/{name}/replace?card={serial}")
    page = sari.submit(page, reason="Tidak terbaca", digits=name[-2:])
    assert '<p class="code"' in page.html
    assert place.shown(serial)["state"] == "replaced"


def test_a_form_sent_twice_does_it_once(place: Desk, sari: Person) -> None:
    _, serial = issue(place)
    page = sari.get(f"/operator/cards/{serial}/top-up")
    typed: Any = {"reason": "Sekolah", "data": "100", "data_unit": "MB"}
    first = sari.submit(page, **typed)
    second = sari.submit(page, **typed)
    assert first.url.partition("?")[0] == second.url.partition("?")[0]
    assert place.shown(serial)["octets_left"] == 2_100_000_000
