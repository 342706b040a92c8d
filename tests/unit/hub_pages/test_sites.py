"""Sites: state, figures, hours, until when data goes, and what few people make hidden."""

import json

import pytest

from portal.domain.ledger import ClockQuality, Kind
from tests.unit.hub_pages.office import Office
from tests.unit.web.village import Page

HOUR_S = 3_600


def states(hub: Office, code: str = "TJL") -> dict[int, str]:
    """The hours of today that have begun, by the clock on the wall."""

    async def read() -> dict[int, str]:
        office = hub.hub.office
        site = await office.review.site(code)
        assert site is not None
        hours = await office.coverage.hours(site, hub.at - 12 * HOUR_S, hub.at + HOUR_S)
        return {(hour.start_at - hub.at) // HOUR_S + 12: hour.state for hour in hours}

    return hub.do(read())


@pytest.mark.parametrize(
    ("ago_s", "said"),
    [(60, "Melapor"), (3 * HOUR_S, "Terlambat melapor"), (30 * HOUR_S, "Tidak terdengar")],
)
def test_a_site_is_called_what_its_box_was_last_heard_to_be(
    hub: Office, ago_s: int, said: str
) -> None:
    hub.heard(hub.add_box("TJL"), ago_s=ago_s)
    assert said in hub.enter("tinjau").get("/review/").text


def test_a_site_without_a_box_has_no_data(hub: Office) -> None:
    text = hub.enter("tinjau").get("/review/").text
    assert "Belum ada kotak" in text and "Belum ada data." in text
    assert "Kartu hari ini 0" not in text and "0 MB" not in text


def test_the_page_says_how_far_the_ledger_is_verified(hub: Office) -> None:
    hub.heard(hub.add_box("TJL"), size=4_321)
    assert "4.321 catatan" in hub.enter("tinjau").get("/review/").text


def test_all_sites_have_data_only_until_the_earliest_of_them(hub: Office) -> None:
    hub.heard(hub.add_box("TJL"), ago_s=60)
    hub.add_site("WSI", "Desa Waisai")
    hub.heard(hub.add_box("WSI", "f" * 16), ago_s=5 * HOUR_S)
    text = hub.enter("tinjau").get("/review/").text
    assert "Semua lokasi: Data sampai hari ini pukul 07.00" in text.replace("\u00a0", " ")


def test_figures_of_fewer_than_five_are_hidden_from_reviewers(hub: Office) -> None:
    node = hub.add_box("TJL")
    hub.heard(node)
    for person in range(1, 5):
        hub.session(node, person, person=person, octets=250_000_000)
    for path in ("/review/", "/review/site/TJL"):
        hidden, shown = hub.enter("tinjau").get(path).text, hub.enter("ketua").get(path).text
        assert "kurang dari 5 kartu" in hidden and "1,0" not in hidden
        assert "1,0 GB" in shown
    hub.session(node, 5, person=5, octets=250_000_000)
    for path in ("/review/", "/review/site/TJL"):
        assert "1,3 GB" in hub.enter("tinjau").get(path).text


def test_usage_that_no_card_is_known_of_is_hidden_too(hub: Office) -> None:
    node = hub.add_box("TJL")
    hub.heard(node)
    hub.session(node, 1, octets=250_000_000)
    hub.write("UPDATE site_day SET users = 0", [()])
    assert "250" not in hub.enter("tinjau").get("/review/site/TJL").text


def test_a_day_of_two_boxes_is_hidden_where_one_of_them_saw_few(hub: Office) -> None:
    old = hub.add_box("TJL")
    hub.sessions(old, [(n, 3_600, n) for n in range(1, 9)])
    new = hub.add_box("TJL", "f" * 16)
    hub.sessions(new, [(1, 60, 1)], octets=250_000_000)
    # The sum, less what the log shows of the first box, would be the one card of the second.
    assert "330" not in hub.enter("tinjau").get("/review/site/TJL").text
    assert "330" in hub.enter("ketua").get("/review/site/TJL").text


# --- many sites


def many(hub: Office) -> None:
    """120 sites that report, and of each kind of trouble one."""
    for number in range(120):
        code = f"D{number:03d}"
        hub.add_site(code, f"Desa {number:03d}", group="utara" if number % 2 else "selatan")
        hub.heard(hub.add_box(code, f"{number:016x}"))
    for code, name, ago_s in (("ZL", "Zona Lambat", 3), ("ZM", "Zona Mati", 30)):
        hub.add_site(code, name)
        hub.heard(hub.add_box(code, f"{ago_s:a>16d}"), ago_s=ago_s * HOUR_S)
    hub.add_site("ZA", "Zona Peringatan")
    alarmed = hub.add_box("ZA", "e" * 16)
    hub.heard(alarmed)
    hub.write(
        "INSERT INTO alarm (node_id, kind, alarm_key, first_at, last_at, count, detail)"
        " VALUES (?, 'fork', 'x', 0, 0, 1, '')",
        [(alarmed,)],
    )


def names_on(page: Page) -> list[str]:
    """The sites of the table, in its order."""
    parts = page.html.split('<th scope="row"><a href="/review/site/')[1:]
    return [part.partition(">")[2].partition("<")[0] for part in parts]


def test_of_many_sites_those_in_trouble_come_first(hub: Office) -> None:
    many(hub)
    person = hub.enter("tinjau")
    page = person.get("/review/")
    assert names_on(page)[:4] == ["Zona Peringatan", "Zona Mati", "Zona Lambat", "Desa Tanjung"]
    assert "124 lokasi" in page.text and "121 Melapor" in page.text
    assert "1 Tidak terdengar" in page.text and "1 Belum ada kotak" in page.text
    assert len(page.body) < 100_000
    assert names_on(person.get("/review/?state=late")) == ["Zona Lambat"]
    assert names_on(person.get("/review/?order=name"))[0] == "Desa 000"


def test_every_one_of_many_sites_is_on_one_page(hub: Office) -> None:
    many(hub)
    person, found = hub.enter("tinjau"), list[str]()
    for start in (0, 50, 100):
        page = person.get(f"/review/?order=name&from={start}")
        found += names_on(page)
    assert "Halaman sebelumnya" in page.text and "Halaman berikutnya" not in page.text
    assert len(found) == len(set(found)) == 124 and found == sorted(found)


def test_sites_are_found_by_name_code_and_group(hub: Office) -> None:
    many(hub)
    person = hub.enter("tinjau")
    assert names_on(person.get("/review/?q=TANJUNG+desa")) == ["Desa Tanjung"]
    assert names_on(person.get("/review/?q=d07")) == [f"Desa 07{n}" for n in range(10)]
    assert names_on(person.get("/review/?q=d07&group=utara")) == [
        f"Desa 07{n}" for n in (1, 3, 5, 7, 9)
    ]
    page = person.get("/review/?q=tidak+ada")
    assert "Tidak ada lokasi yang cocok" in page.text and 'value="tidak ada"' in page.html
    assert person.get("/review/?from=99999&order=x&state=x&group=x").status == 200


def test_the_order_tells_no_reviewer_what_is_hidden(hub: Office) -> None:
    for code, name, people in (("A", "Awal", 1), ("B", "Besar", 9), ("C", "Kecil", 4)):
        hub.add_site(code, name)
        node = hub.add_box(code, code.lower() * 16)
        hub.heard(node)
        hub.sessions(node, [(n, 60, n) for n in range(1, people + 1)])
    ordered = "/review/?order=cards"
    assert names_on(hub.enter("tinjau").get(ordered)) == ["Besar", "Awal", "Desa Tanjung", "Kecil"]
    assert names_on(hub.enter("ketua").get(ordered)) == ["Besar", "Kecil", "Awal", "Desa Tanjung"]


def test_a_replaced_boxs_records_stay_the_sites(hub: Office) -> None:
    old = hub.add_box("TJL")
    hub.session(old, 1, octets=1_000_000_000)
    new = hub.add_box("TJL", "f" * 16)
    hub.session(new, 1, octets=1_000_000_000)
    assert "2,0 GB" in hub.enter("ketua").get("/review/").text


# --- hours


def test_an_hour_is_what_the_records_say(hub: Office) -> None:
    node = hub.add_box("TJL")
    down = [[hub.at - 6 * HOUR_S, hub.at - 5 * HOUR_S]]
    hub.event(node, 1, Kind.HEALTH, "{}", ago_s=7 * HOUR_S - 5)
    hub.event(node, 2, Kind.HEALTH, json.dumps({"down": down}), ago_s=5 * HOUR_S - 5)
    hub.event(node, 3, Kind.CLOCK, "{}", ago_s=3 * HOUR_S - 5, quality=ClockQuality.UNSET)
    hub.session(node, 4, ago_s=2 * HOUR_S - 600)
    found = states(hub)
    assert (found[4], found[6], found[9], found[10]) == (
        "idle",
        "backhaul_down",
        "clock_doubtful",
        "used",
    )
    assert {found[hour] for hour in (0, 1, 2, 3, 7, 8, 11, 12)} == {"no_report"}


def test_the_power_window_of_the_office_excuses_silence(hub: Office) -> None:
    hub.add_site("WSI", "Desa Waisai", power_window="06:00-22:00")
    hub.add_box("WSI")
    found = states(hub, "WSI")
    assert (found[5], found[6]) == ("no_power", "no_report")


@pytest.mark.parametrize("down", ["x", [1], [[1, "a"]], [[1, 2, 3]], None, {"a": 1}])
def test_evidence_that_makes_no_sense_breaks_nothing(hub: Office, down: object) -> None:
    node = hub.add_box("TJL")
    hub.event(node, 1, Kind.HEALTH, json.dumps({"down": down}), ago_s=2 * HOUR_S)
    assert hub.enter("tinjau").get("/review/site/TJL").status == 200


def test_the_week_shows_each_day_with_its_hours_and_its_words(hub: Office) -> None:
    node = hub.add_box("TJL")
    hub.heard(node)
    hub.session(node, 1)
    page = hub.enter("ketua").get("/review/site/TJL?day=2026-11-21")
    assert page.text.count("24 jam tidak ada laporan") == 6
    assert "1 jam dipakai" in page.text
    assert "Jam demi jam, 21/11/2026" in page.text
    assert page.text.count("Data sampai") >= 3


def test_an_hour_of_which_nothing_was_heard_has_no_figures(hub: Office) -> None:
    node = hub.add_box("TJL")
    hub.heard(node)
    hub.session(node, 1)
    hub.event(node, 2, Kind.HEALTH, "{}", ago_s=4 * HOUR_S - 5)
    text = hub.enter("ketua").get("/review/site/TJL?day=2026-11-21").text
    hours = text.partition("Jam demi jam, 21/11/2026")[2].replace("\u00a0", " ")
    assert "06.00 ? tidak ada laporan \u2013 \u2013 \u2013" in hours
    assert "07.00 \u25cb tidak ada yang memakai 0 0 0 MB" in hours


def test_only_what_changed_of_a_site_is_written_down(hub: Office) -> None:
    person = hub.enter("ketua")
    before = len(hub.deeds())
    person.submit(person.get("/review/site/TJL/settings"))
    assert len(hub.deeds()) == before
    person.submit(person.get("/review/site/TJL/settings"), without_node="open")
    assert hub.deeds()[-1]["details"] == "without_node: open"
    text = person.get("/review/audit").text
    assert "Mengubah lokasi Kalau kotak mati: Wi-Fi dibuka untuk keadaan darurat" in text


def test_settings_of_a_site_are_saved_and_written_down(hub: Office) -> None:
    person = hub.enter("ketua")
    page = person.get("/review/site/TJL/settings")
    page = person.submit(page, power_window="6:00-22:00", group_name="Utara")
    assert "Pengaturan lokasi disimpan" in page.text and "06:00-22:00" in page.text
    assert hub.deeds()[-1]["deed"] == "site.set"
    page = person.submit(person.get("/review/site/TJL/settings"), power_window="siang")
    assert page.alert
