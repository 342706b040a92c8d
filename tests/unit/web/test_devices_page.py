"""Devices at the desk: those that need no card, and phones that may not come in."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.web.counter_gateway import CounterGateway
from tests.unit.web.desk import Desk, Person, desk
from tests.unit.web.village import Browser, Page, open_internet

PATH = "/operator/devices"
MAC = "a45e60123456"


@pytest.fixture
def d(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """For what changes nothing."""
    with desk(tmp_path_factory.mktemp("node")) as found:
        yield found


def add(person: Person, **typed: Any) -> Page:
    fields = {"name": "Mesin absen", "mac": MAC, "profile": "harian", "kind": "attendance"}
    return person.submit(person.get(PATH), action=f"{PATH}/known", **{**fields, **typed})


def block(person: Person, mac: str, reason: str = "Mengganggu") -> Page:
    return person.submit(person.get(PATH), action=f"{PATH}/blocked", block_mac=mac, reason=reason)


@pytest.mark.parametrize(
    "mac", ["A4:5E:60:12:34:56", "a4-5e-60-12-34-56", "a45e.6012.3456", " A45E60123456 "]
)
def test_a_device_is_added_however_its_number_is_written(d: Desk, mac: str) -> None:
    page = add(d.sign_in("sari"), mac=mac, alarm="3600")
    assert "Mesin absen sekarang bisa masuk tanpa kartu." in page.text
    assert "a4:5e:60:12:34:56" in page.text and "Mesin absen" in page.text
    assert "▲ Belum pernah terdengar" in page.text
    known = d.call(lambda: d.node.devices.known(1))
    assert [(one["mac"], one["alarm_after_s"]) for one in known] == [(MAC, 3_600)]
    assert d.last_deed()["action"] == "device.add" and d.last_deed()["operator"] == "sari"
    audit = d.enter("sari").get("/operator/audit").text
    assert "**:**:**:**:34:56" in audit and "Mesin absen" in audit
    assert "a4:5e:60" not in audit and MAC not in audit


def test_a_silent_device_is_marked_and_not_while_there_is_no_power(d: Desk) -> None:
    d.do(d.node.admin.set_site("TANJUNG", {"power_window": "06.00-23.00"}))
    add(d.sign_in("sari"), alarm="3600")
    d.pass_time(2 * 3_600)
    assert "■ Diam 2 jam" in d.sign_in("sari").get(PATH).text
    d.pass_time(10 * 3_600)
    page = d.sign_in("sari").get(PATH)
    assert "Diam" not in page.text and "Belum pernah terdengar" in page.text


@pytest.mark.parametrize(
    "typed",
    [{"mac": "bukan nomor"}, {"mac": ""}, {"name": ""}, {"name": "x" * 61}, {"kind": "kapal"}]
    + [{"profile": "nihil"}, {"profile": ""}],
)
def test_a_mistake_is_said_beside_its_field_and_what_was_typed_stays(
    shared: Desk, typed: dict[str, str]
) -> None:
    page = add(shared.sign_in("sari"), **typed)
    assert page.status == 400 and len(page.alert.split()) > 2
    assert 'aria-invalid="true"' in page.html and '<details class="card" open>' in page.html
    assert "Mesin absen" in page.html or "name" in typed
    assert shared.call(lambda: shared.node.devices.known()) == []


def test_the_same_device_twice_is_refused(d: Desk) -> None:
    sari = d.sign_in("sari")
    add(sari)
    page = add(sari, name="Mesin lain")
    assert page.status == 400 and "Mesin absen" in page.alert
    assert add(sari, mac="a45e60123457").status == 400


def test_removing_asks_for_the_end_of_the_number_and_a_reason(d: Desk) -> None:
    sari = d.sign_in("sari")
    page = add(sari)
    ask = sari.click(page, "Hapus")
    assert "Hapus Mesin absen" in ask.text and "a4:5e:60:12:34:56" in ask.text
    wrong = sari.submit(ask, digits="57", reason="Rusak")
    assert wrong.status == 400 and "Itu bukan 2 tanda terakhir" in wrong.alert
    assert "Rusak" in wrong.html
    assert sari.submit(ask, digits="56", reason=" ").status == 400
    page = sari.submit(ask, digits="56", reason="Rusak")
    assert "Mesin absen sudah dihapus." in page.text and "a4:5e" not in page.text
    deed = d.last_deed()
    assert (deed["action"], deed["reason"], deed["operator"]) == ("device.remove", "Rusak", "sari")


def test_a_blocked_phone_cannot_log_in_until_it_is_unblocked(d: Desk) -> None:
    gateway = d.add_gateway(site="TANJUNG")
    phone, browser = gateway.phones[0], Browser()
    sari = d.sign_in("sari")
    page = block(sari, phone.mac.upper())
    assert "sudah diblokir." in page.text and "Mengganggu" in page.text
    code, _ = d.issue(site="TANJUNG")
    browser.submit(open_internet(browser, gateway, phone), kode=code)
    assert phone.session is None
    ask = sari.click(page, "Buka blokir")
    refused = sari.submit(ask, reason="")
    assert refused.status == 400 and refused.alert
    page = sari.submit(ask, reason="Sudah minta maaf")
    assert "bisa masuk lagi." in page.text and "Tidak ada." in page.text
    deed = d.last_deed()
    assert (deed["action"], deed["reason"]) == ("device.unblock", "Sudah minta maaf")
    done = browser.submit(open_internet(browser, gateway, phone), kode=code)
    assert "Berhasil." in done.text and phone.session is not None


def test_a_mistake_in_blocking_is_said(d: Desk) -> None:
    sari = d.sign_in("sari")
    for mac, reason in (("xyz", "Mengganggu"), (MAC, ""), (MAC, "x" * 201)):
        page = block(sari, mac, reason)
        assert page.status == 400 and page.alert and 'aria-invalid="true"' in page.html
    block(sari, MAC)
    assert "a4:5e:60:12:34:56" in block(sari, MAC).alert
    assert len(d.call(lambda: d.node.devices.blocked())) == 1


def test_another_sites_devices_do_not_exist_and_reviewers_change_nothing(d: Desk) -> None:
    sari, wayan, tinjau = (d.sign_in(name) for name in ("sari", "wayan", "tinjau"))
    add(sari, name="Absen Tanjung")
    block(sari, "02f1f2f3f4f5")
    known = d.call(lambda: d.node.devices.known(1))[0]["id"]
    page = wayan.get(PATH)
    assert "Absen Tanjung" not in page.text and "02:f1" not in page.text
    for path in (f"{PATH}/known/{known}/remove", f"{PATH}/blocked/02f1f2f3f4f5"):
        assert wayan.get(path).status == 404
        assert tinjau.get(path).status == 403
        fields = {"csrf": wayan.csrf(), "digits": "56", "reason": "Iseng"}
        assert wayan.send(path, fields).status == 404
    assert wayan.get(f"{PATH}/known/x/remove").status == 404
    page = tinjau.get(PATH)
    assert "Absen Tanjung" in page.text and "**:**:**:**:f4:f5" in page.text
    assert "02:f1" not in page.html and "02f1f2f3" not in page.html
    assert "Buka blokir" not in page.text and "Tambah" not in page.text


def test_many_devices_stay_within_the_budget(d: Desk) -> None:
    async def fill() -> None:
        for n in range(70):
            await d.node.devices.block(f"02a1b2c3{n:04x}", 1, "Mengganggu " + "x" * 120, "sari")

    d.do(fill())
    sari = d.sign_in("sari")
    page = sari.get(PATH)
    assert len(page.body) < 30_000 and page.text.count("Buka blokir") == 30
    assert sari.click(page, "Yang lebih lama").text.count("Buka blokir") == 30


def test_of_a_blocked_phone_the_audit_and_addresses_have_the_end_only(d: Desk) -> None:
    """The audit is kept for ever; addresses are remembered by browsers."""
    sari = d.sign_in("sari")
    page = block(sari, MAC)
    deed = d.last_deed()
    end = f"**:**:**:**:{MAC[8:10]}:{MAC[10:]}"
    assert (deed["action"], deed["object"]) == ("device.block", end)
    assert end in page.text
    token = page.url.partition("n=")[2].split(".")[0]
    assert MAC[:8] not in base64.urlsafe_b64decode(token + "==").decode().replace(":", "")
    d.do(d.node.devices.unblock(MAC, 1, "sudah", by="sari"))
    assert d.last_deed()["object"] == end


def test_a_reviewer_does_not_learn_which_phone_has_which_card(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-cari", "127.0.0.41")
    _, serial = d.issue(site="TANJUNG")
    gateway.start("cari-1", serial, MAC)
    path = f"/operator/cards?q={MAC}"
    assert serial in d.enter("sari").get(path).text
    assert serial not in d.enter("tinjau").get(path).text
