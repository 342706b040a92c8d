"""Giving one card at the counter: the code stands on one page and nowhere else."""

import threading
from collections.abc import Iterator

import pytest

from portal.domain.voucher import show
from portal.practice.gateway import PracticeGateway
from tests.unit.web.desk import Desk, Person, desk, forms_of
from tests.unit.web.village import Browser, Page, open_internet


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("node")) as found:
        found.set_profile("keluarga", data_total="2GB", valid="7d", hours="06:00-22:00")
        yield found


@pytest.fixture(scope="module")
def gateway(place: Desk) -> PracticeGateway:
    return place.add_gateway(site="TANJUNG")


def give(person: Person, profile: str = "harian") -> tuple[Page, str, str]:
    """A card just given: its page, its serial and its code."""
    page = person.submit(person.get("/operator/give"), profile=profile)
    assert page.status == 200, page.text
    serial = page.url.rpartition("/")[2]
    digits = page.html.partition('<p class="code"')[2].partition("</p>")[0]
    code = "".join(sign for sign in digits.partition(">")[2] if sign.isdigit())
    assert len(code) == 12, page.text
    return page, serial, code


def count(place: Desk) -> int:
    return int(
        place.call(lambda: place.node.store.database.all("SELECT COUNT(*) FROM voucher"))[0][0]
    )


def test_a_card_is_given_and_its_code_opens_the_network(
    place: Desk, gateway: PracticeGateway
) -> None:
    sari = place.sign_in("sari")
    page, serial, code = give(sari, "keluarga")
    assert show(code) in page.text
    assert "2 GB dan 7 hari sejak pertama dipakai." in page.text.replace("\xa0", " ")
    assert "06.00–22.00 WITA" in page.text
    assert f"/operator/cards/{serial}/ticket" in page.links.values()
    assert sari.get(f"/operator/cards/{serial}/ticket").status == 200
    given = next(deed for deed in place.deeds() if deed["object"] == serial)
    assert (given["action"], given["operator"]) == ("voucher.give", "sari")
    phone = Browser()
    page = phone.submit(open_internet(phone, gateway, gateway.phones[0]), kode=code)
    assert "Berhasil." in page.text


def test_after_it_is_given_only_the_last_four_are_left(place: Desk) -> None:
    sari = place.sign_in("sari")
    page, serial, code = give(sari)
    # An old phone drops the page: until the card is handed over it comes back.
    assert show(code) in sari.get(page.url).text
    page = sari.submit(page)
    assert f"Kartu {serial} sudah diberikan." in page.text
    assert f"**** **** {code[-4:]}" in page.text.replace("\xa0", " ")
    for path in (page.url, f"/operator/cards/{serial}", "/operator/cards", "/operator/audit"):
        html = sari.get(path).html
        assert code not in html.replace(" ", "").replace("</span>", "").replace("<span>", "")
    # Once more changes nothing.
    assert sari.get(f"/operator/give/{serial}").status == 200


def test_another_sign_in_never_sees_the_code(place: Desk) -> None:
    sari = place.sign_in("sari")
    page, _, code = give(sari)
    for other in (place.sign_in("sari"), place.sign_in("kepala")):
        seen = other.get(page.url)
        assert seen.status == 200
        assert show(code) not in seen.text
        assert f"**** **** {code[-4:]}" in seen.text.replace("\xa0", " ")


def test_a_code_nobody_confirmed_is_hidden_after_ten_minutes(place: Desk) -> None:
    sari = place.sign_in("sari")
    page, _, code = give(sari)
    place.pass_time(599)
    assert show(code) in sari.get(page.url).text
    place.pass_time(2)
    assert show(code) not in sari.get(page.url).text


def test_the_profile_given_last_stands_first_for_each_operator(place: Desk) -> None:
    sari, kepala = place.sign_in("sari"), place.sign_in("kepala")
    give(sari, "keluarga")
    give(kepala, "harian")

    def first(person: Person) -> str:
        return forms_of(person.get("/operator/give"))[0].buttons[0][1]

    assert (first(sari), first(kepala)) == ("keluarga", "harian")
    assert "Terakhir dipilih" in sari.get("/operator/give").text


def test_a_form_sent_twice_gives_one_card(place: Desk) -> None:
    sari = place.sign_in("sari")
    page = sari.get("/operator/give")
    fields = dict(forms_of(page)[0].fields) | {"profile": "harian"}
    before = count(place)
    answers: list[Page] = []

    def press() -> None:
        answers.append(sari.send("/operator/give", fields))

    presses = [threading.Thread(target=press) for _ in range(4)]
    for one in presses:
        one.start()
    for one in presses:
        one.join()
    assert count(place) == before + 1
    assert {answer.status for answer in answers} == {303}
    assert len({answer.headers["location"] for answer in answers}) == 1


def test_an_unknown_profile_is_said_and_gives_nothing(place: Desk) -> None:
    sari = place.sign_in("sari")
    before = count(place)
    page = sari.submit(sari.get("/operator/give"), profile="emas")
    assert page.status == 200
    assert "emas" in page.alert
    assert "harian" in page.text
    assert count(place) == before


def test_a_card_is_taken_back_within_five_minutes(place: Desk, gateway: PracticeGateway) -> None:
    sari = place.sign_in("sari")
    page, serial, code = give(sari)
    assert "Masih bisa ditarik kembali selama 5 menit" in page.text
    page = sari.submit(page)
    place.pass_time(70)
    page = sari.get(page.url)
    assert "Masih bisa ditarik kembali selama 3 menit" in page.text
    page = sari.submit(page, action=f"/operator/give/{serial}/undo")
    assert f"Kartu {serial} ditarik kembali." in page.text
    assert place.shown(serial)["state"] == "revoked"
    assert place.last_deed()["action"] == "voucher.undo"
    phone = Browser()
    refused = phone.submit(open_internet(phone, gateway, gateway.phones[1]), kode=code)
    assert "sudah dibatalkan" in refused.text
    # The page from before tells that it is over, and does nothing a second time.
    page = sari.get(f"/operator/give/{serial}")
    assert "sudah tidak berlaku" in page.text
    assert "Tarik kembali" not in page.text
    assert "Ditarik kembali" in sari.get(f"/operator/cards/{serial}").text


def test_after_five_minutes_nothing_is_taken_back(place: Desk) -> None:
    sari = place.sign_in("sari")
    page, serial, _ = give(sari)
    place.pass_time(301)
    assert "Tarik kembali" not in sari.get(page.url).text
    late = sari.submit(page, action=f"/operator/give/{serial}/undo")
    assert "5 menit" in late.alert
    assert place.shown(serial)["state"] == "unused"


def test_a_used_card_is_not_taken_back(place: Desk) -> None:
    sari = place.sign_in("sari")
    gateway = place.add_gateway(site="TANJUNG")
    page, serial, code = give(sari)
    phone = Browser()
    phone.submit(open_internet(phone, gateway, gateway.phones[0]), kode=code)
    assert "Tarik kembali" not in sari.get(page.url).text
    refused = sari.submit(page, action=f"/operator/give/{serial}/undo")
    assert "sudah dipakai" in refused.alert
    assert place.shown(serial)["state"] == "active"


def test_a_card_of_another_site_does_not_exist(place: Desk) -> None:
    _, serial, _ = give(place.sign_in("sari"))
    wayan = place.sign_in("wayan")
    for path in (f"/operator/give/{serial}", f"/operator/cards/{serial}"):
        assert wayan.get(path).status == 404
    csrf = wayan.csrf()
    for act in ("given", "undo"):
        answer = wayan.send(f"/operator/give/{serial}/{act}", {"csrf": csrf})
        assert answer.status == 404
    assert place.shown(serial)["state"] == "unused"


def test_in_english_the_page_is_english(place: Desk) -> None:
    sari = place.sign_in("sari")
    sari.get("/operator/give?lang=en")
    page, _, _ = give(sari, "keluarga")
    assert "It is given" in page.text
    assert "2 GB and 7 days from first use." in page.text.replace("\xa0", " ")
