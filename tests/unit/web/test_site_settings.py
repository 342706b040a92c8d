"""Settings of a site: changed at the desk by name and with a reason, or by the command line; what
residents then read, and what is recorded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portal import commands
from portal.admin import Admin
from portal.store import db
from portal.store.db import Database
from portal.store.node import NodeStore
from tests.unit.web.desk import Desk, Person, desk
from tests.unit.web.village import NOON_AT, Browser, Page, open_internet

PATH = "/operator/site"
HOUR_S = 3_600


@pytest.fixture
def d(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """For what changes nothing."""
    with desk(tmp_path_factory.mktemp("node")) as found:
        yield found


def save(person: Person, reason: str = "Rapat desa", **typed: Any) -> Page:
    return person.submit(person.get(PATH), action=PATH, reason=reason, **typed)


def resident(d: Desk) -> Page:
    gateway = d.add_gateway(site="TANJUNG")
    return open_internet(Browser(), gateway, gateway.phones[0])


def command(d: Desk, **changes: str) -> dict[str, Any]:
    """`pesisir site set TANJUNG`."""
    arguments = {"code": "TANJUNG", "changes": changes}
    work = commands.execute(d.node, "set_site", arguments, lambda done, total: None)
    found = d.do(work)
    assert isinstance(found, dict)
    return found


def test_what_an_operator_sets_is_what_residents_read_and_is_recorded(d: Desk) -> None:
    page = save(
        d.sign_in("sari"),
        power_window="18.00 - 23.30",
        helper="Pak Rusli, balai desa, 0800 000 0009",
        counter="Kantor Desa",
        opening_hours="8.00-12.00, 13.00-15.00",
        wifi_name="DESA TANJUNG",
    )
    assert "Setelan sudah disimpan." in page.text
    deed = d.last_deed()
    done = (deed["operator"], deed["action"], deed["object"], deed["reason"])
    assert done == ("sari", "site.set", "TANJUNG", "Rapat desa")
    assert "power_window: 18:00-23:00 -> 18:00-23:30" in deed["details"]
    assert "counter: - -> Kantor Desa" in deed["details"]
    site = d.node.admin.site("TANJUNG")
    assert (site.power_window, site.opening_hours) == ("18:00-23:30", "08:00-12:00,13:00-15:00")

    audit = d.sign_in("sari").get("/operator/audit").text
    assert "Jam menyala: 18.00-23.00 → 18.00-23.30; Petugas yang membantu: Ibu Sari" in audit
    assert "power_window" not in audit

    form = resident(d)
    assert "WiFi menyala pukul 18.00–23.30 WITA." in form.text
    assert "Belum punya kartu? Gratis, minta di Kantor Desa, pukul 08.00–12.00" in form.text
    assert form.links["0800 000 0009"] == "tel:08000000009"
    outside = Browser().get(d.url + "/v/482917305514")
    assert outside.status == 200


def test_a_card_that_is_over_says_where_and_when_there_is_a_new_one(d: Desk) -> None:
    d.set_profile("sedikit", data_total="1MB")
    code, _ = d.issue("sedikit", site="TANJUNG")
    gateway = d.add_gateway(site="TANJUNG")
    browser, phone = Browser(), gateway.phones[0]
    browser.submit(open_internet(browser, gateway, phone), kode=code)
    d.do(gateway.download(phone, 2_000_000))
    d.do(gateway.settled())
    again = browser.submit(open_internet(browser, gateway, phone), kode=code)
    assert "Minta kartu baru ke petugas." in again.alert
    for typed, sentence in (
        ({"counter": "Kantor Desa"}, "Minta kartu baru di Kantor Desa."),
        (
            {"opening_hours": "08.00-15.00"},
            "Minta kartu baru di Kantor Desa, pukul 08.00–15.00 WITA.",
        ),
        ({"counter": ""}, "Minta kartu baru ke petugas, pukul 08.00–15.00 WITA."),
    ):
        save(d.sign_in("sari"), **typed)
        again = browser.submit(open_internet(browser, gateway, phone), kode=code)
        assert sentence in again.alert


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({"power_window": "malam saja"}, 'Jam menyala: "malam saja" tidak bisa dibaca.'),
        ({"opening_hours": "08.00-08.00"}, 'Jam buka untuk minta kartu: "08.00-08.00" tidak'),
        ({"wifi_name": "é" * 17}, "Nama WiFi di HP: terlalu panjang, 34 huruf. Paling banyak 32."),
        ({"helper": "x" * 121}, "Petugas yang membantu: terlalu panjang, 121 huruf."),
        ({"counter": "x" * 61}, "Tempat minta kartu: terlalu panjang"),
        ({}, "Belum ada yang diubah."),
        ({"counter": "Balai", "reason": " "}, "Tulis alasannya dulu."),
        ({"counter": "Balai", "reason": "x" * 201}, "Alasan terlalu panjang."),
    ],
)
def test_a_mistake_is_said_and_what_was_typed_stays(
    shared: Desk, typed: dict[str, str], sentence: str
) -> None:
    page = save(shared.sign_in("sari"), **{"reason": "Rapat desa", **typed})
    assert page.status == 400 and sentence in page.alert
    for name, value in typed.items():
        assert value.strip() in page.html, name
    assert shared.node.admin.site("TANJUNG").counter == ""
    assert all(
        deed["operator"] != "sari" or "site" not in deed["action"] for deed in shared.deeds()
    )


def test_two_people_change_different_things_and_neither_undoes_the_other(d: Desk) -> None:
    sari, kepala = d.sign_in("sari"), d.sign_in("kepala")
    first, second = sari.get(PATH), kepala.get(PATH)
    sari.submit(first, action=PATH, counter="Kantor Desa", reason="Pindah")
    kepala.submit(second, action=PATH, wifi_name="TANJUNG", reason="Router baru")
    site = d.node.admin.site("TANJUNG")
    assert (site.counter, site.wifi_name) == ("Kantor Desa", "TANJUNG")
    assert d.last_deed()["details"] == "wifi_name: - -> TANJUNG"
    page = kepala.submit(second, action=PATH, counter="Balai", reason="Salah", once="another")
    assert "Tempat minta kartu baru saja diubah orang lain." in page.alert
    assert d.node.admin.site("TANJUNG").counter == "Kantor Desa"


def test_only_operators_of_the_site_change_it(d: Desk) -> None:
    tinjau = d.sign_in("tinjau")
    assert "Simpan" not in tinjau.get(PATH).text
    assert tinjau.send(PATH, {"csrf": tinjau.csrf(), "counter": "Balai"}).status == 403
    wayan = d.sign_in("wayan")
    page = save(wayan, counter="Kantor Waisai")
    assert "Setelan sudah disimpan." in page.text
    wayan.get(f"{PATH}?site=TANJUNG")
    save(wayan, counter="Kantor Waisai Baru")
    assert d.node.admin.site("TANJUNG").counter == ""
    assert d.node.admin.site("WAISAI").counter == "Kantor Waisai Baru"


def test_the_command_line_sets_the_same_fields(d: Desk) -> None:
    found = command(
        d,
        power_window="18:00-06:00",
        counter="Kantor Desa",
        opening_hours="08.00-15.00",
        wifi_name="TANJUNG",
    )
    assert found["power_window"] == "18:00-06:00" and found["opening_hours"] == "08:00-15:00"
    assert found["counter"] == "Kantor Desa" and found["wifi_name"] == "TANJUNG"
    assert d.last_deed()["operator"] == "command line"


# --- the power window


def test_there_is_power_in_the_window_only(d: Desk) -> None:
    admin: Admin = d.node.admin
    command(d, power_window="18.00-23.00")
    assert not admin.is_power_on(1, NOON_AT)
    assert admin.is_power_on(1, NOON_AT + 6 * HOUR_S)
    assert not admin.is_power_on(1, NOON_AT + 11 * HOUR_S)
    # Waisai is an hour ahead and has no window.
    assert admin.is_power_on(2, NOON_AT)
    command(d, power_window="")
    assert admin.is_power_on(1, NOON_AT)
    assert "menyala" not in resident(d).text


def test_an_old_database_keeps_its_words_and_its_announcement(tmp_path: Path) -> None:
    """A database of schema 1 with free text for the power window."""
    path = tmp_path / db.FILE_NAME
    steps = db.migrations()
    db.migrate(path, steps[:1])
    import sqlite3

    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO site (code, name, zone, power_window, announcement)"
            " VALUES ('A', 'Desa A', 'Asia/Makassar', 'malam hari saja', 'Ronda malam')"
        )
    connection.close()
    db.migrate(path, steps)

    import asyncio

    from portal.notices import Notices
    from portal.store.notices import NoticeStore
    from portal.web.sentences import power_words
    from portal.web.text import Texts

    async def story() -> None:
        database = await Database.open(path)
        try:
            admin = Admin(NodeStore(database), random_token=str, now=lambda: 2_000_000_000)
            site = admin.site("A")
            assert site.power_window == "malam hari saja" and site.power_hours is None
            assert admin.is_power_on(site.id, NOON_AT)
            t = Texts().translator("id")
            words = power_words(t, site, NOON_AT, admin.zone(site.id))
            assert words == "Jadwal WiFi: malam hari saja"
            notices = Notices(NoticeStore(database), admin, now=lambda: 2_000_000_000)
            assert notices.running(site.id) == ("Ronda malam",)
            assert notices.lasting(site.id) == "Ronda malam"
        finally:
            await database.close()

    asyncio.run(story())


# --- profiles


def profile(person: Person, name: str, reason: str = "Musyawarah", **typed: Any) -> Page:
    path = f"{PATH}/profile/{name}"
    return person.submit(person.get(path), action=path, reason=reason, **typed)


def test_an_operator_changes_the_hours_of_a_profile(d: Desk) -> None:
    d.issue(site="TANJUNG")
    sari = d.sign_in("sari")
    assert "500 MB per hari, 2 jam per hari" in sari.get(PATH).text.replace("\xa0", " ")
    page = profile(sari, "harian", hours="06.00-22.00")
    assert "Kartu harian sudah diubah." in page.text
    assert "pukul 06.00–22.00 WITA" in page.text
    assert d.node.admin.profile("harian").hours == "06:00-22:00"
    deed = d.last_deed()
    done = (deed["operator"], deed["action"], deed["object"], deed["reason"], deed["details"])
    assert done == ("sari", "profile.set", "harian", "Musyawarah", "hours: none -> 06:00-22:00")
    assert deed["site_id"] == 1
    profile(sari, "harian", hours="")
    assert d.node.admin.profile("harian").hours is None


def test_an_operator_touches_no_other_limit(d: Desk) -> None:
    sari = d.sign_in("sari")
    path = f"{PATH}/profile/harian"
    assert "Data per hari" not in sari.get(path).text
    page = profile(sari, "harian", data_day="99GB", was_data_day="500MB")
    assert "Isi jenis kartu hanya bisa diubah admin." in page.alert
    assert d.node.admin.profile("harian").data_day_octets == 500_000_000


def test_an_admin_changes_any_limit_and_a_mistake_is_named(d: Desk) -> None:
    kepala = d.sign_in("kepala")
    profile(kepala, "harian", data_day="750MB", time_day="", rate_down="2M")
    changed = d.node.admin.profile("harian")
    assert (changed.data_day_octets, changed.time_day_s) == (750_000_000, None)
    assert changed.rate_down_kbps == 2_000
    details = d.last_deed()["details"]
    assert "data_day: 500MB -> 750MB" in details and "time_day: 2h -> none" in details
    audit = kepala.get("/operator/audit").text.replace("\xa0", " ")
    assert "Data per hari: 500 MB → 750 MB; " in audit and "Waktu per hari: 2 jam → -; " in audit
    page = kepala.get(f"{PATH}/profile/harian")
    assert 'value="15 menit"' in page.html and "yes</option>" not in page.html
    profile(kepala, "harian", idle="1 jam 30 menit", valid="30 hari", when_used_up="128k")
    changed = d.node.admin.profile("harian")
    assert (changed.idle_s, changed.valid_s, changed.throttle_kbps) == (5_400, 2_592_000, 128)
    profile(kepala, "harian", when_used_up="", remember_phone="no", time_week="2h")
    changed = d.node.admin.profile("harian")
    assert changed.throttle_kbps is None and not changed.remember_phone
    assert changed.time_week_s == 7_200
    page = profile(kepala, "harian", data_day="banyak")
    assert 'Data per hari: "banyak" tidak bisa dibaca.' in page.alert and "banyak" in page.html
    page = profile(kepala, "harian", hours="siang")
    assert 'Jam pakai: "siang" tidak bisa dibaca.' in page.alert


def test_a_profile_that_another_site_uses_is_not_for_one_sites_operator(d: Desk) -> None:
    d.issue(site="WAISAI")
    sari = d.sign_in("sari")
    page = sari.get(f"{PATH}/profile/harian")
    assert "Hanya admin yang bisa mengubahnya." in page.text and "Simpan" not in page.text
    answer = sari.send(
        f"{PATH}/profile/harian",
        {"csrf": sari.csrf(), "hours": "06.00-07.00", "was_hours": "", "reason": "Iseng"},
    )
    assert answer.status == 400 and d.node.admin.profile("harian").hours is None
    profile(d.sign_in("kepala"), "harian", hours="06.00-20.00")
    assert d.node.admin.profile("harian").hours == "06:00-20:00"


def test_an_unknown_profile_does_not_exist(shared: Desk) -> None:
    assert shared.sign_in("sari").get(f"{PATH}/profile/nihil").status == 404
