"""Announcements: made at the desk or the command line, shown on the residents' pages while they
run, and every mistake in a clear sentence."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from portal import commands
from portal.errors import DeskError
from portal.notices import AHEAD_MOST_S, KEPT_MOST, WORDS_LONGEST, moment
from tests.unit.web.desk import Desk, Person, desk, forms_of
from tests.unit.web.village import NOON_AT, ZONE, Browser, Page

PATH = "/operator/announcements"
MAKASSAR = ZoneInfo(ZONE)


@pytest.fixture
def d(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """For what changes nothing."""
    with desk(tmp_path_factory.mktemp("node")) as found:
        yield found


def announce(person: Person, words: str, **fields: Any) -> Page:
    return person.submit(person.get(PATH), action=PATH, words=words, **fields)


def resident(d: Desk) -> str:
    """What a phone at a gateway of TANJUNG reads."""
    gateway = d.add_gateway(site="TANJUNG")
    page = Browser().get(f"http://{gateway.host}:{gateway.phones[0].port}/internet")
    return page.text


def day(days: int) -> str:
    return (datetime.fromtimestamp(NOON_AT, MAKASSAR).date() + timedelta(days=days)).isoformat()


def test_an_announcement_shows_at_once_and_until_its_end(d: Desk) -> None:
    sari = d.sign_in("sari")
    page = announce(sari, "Ronda malam ini.", end_day=day(0), end_time="18:00")
    assert "Pengumuman sudah tampil di halaman warga." in page.text
    assert "Sampai hari ini pukul 18.00 WITA." in page.text
    deed = d.last_deed()
    done = (deed["operator"], deed["action"], deed["object"], deed["details"])
    assert done == ("sari", "announcement.add", "TANJUNG", "Ronda malam ini.")
    assert "Ronda malam ini." in resident(d)
    d.pass_time(6 * 3600 - 1)
    assert "Ronda malam ini." in resident(d)
    d.pass_time(1)
    assert "Ronda malam ini." not in resident(d)


def test_one_that_is_coming_shows_in_the_sites_zone_and_not_before(d: Desk) -> None:
    sari = d.sign_in("sari")
    page = announce(sari, "Besok listrik padam.", start_day=day(1), start_time="06:00")
    assert "Tampil pada waktunya." in page.text and "Mulai besok pukul 06.00 WITA." in page.text
    assert "Besok listrik padam." not in resident(d)
    d.pass_time(18 * 3600 - 1)
    assert "Besok listrik padam." not in resident(d)
    d.pass_time(1)
    assert "Besok listrik padam." in resident(d)


def test_another_site_reads_nothing_of_it_and_cannot_end_it(d: Desk) -> None:
    announce(d.sign_in("sari"), "Hanya untuk Tanjung.")
    wayan = d.sign_in("wayan")
    assert "Hanya untuk Tanjung." not in wayan.get(PATH).text
    made = d.call(lambda: d.node.notices.live(1)[0].id)
    answer = wayan.send(f"{PATH}/{made}/end", {"csrf": wayan.csrf()})
    assert answer.status == 404
    assert d.node.notices.running(1) == ("Hanya untuk Tanjung.",)


def test_ending_it_early_takes_it_off_and_keeps_it_in_the_list(d: Desk) -> None:
    sari = d.sign_in("sari")
    page = announce(sari, "Pasar pindah.")
    made = d.node.notices.live(1)[0].id
    page = sari.submit(page, action=f"{PATH}/{made}/end")
    assert "Pengumuman sudah diakhiri." in page.text
    assert "Diakhiri petugas hari ini pukul 12.00 WITA." in page.text
    assert d.last_deed()["action"] == "announcement.remove"
    assert "Pasar pindah." not in resident(d)
    again = sari.send(f"{PATH}/{made}/end", {"csrf": sari.csrf()})
    assert again.status == 400 and "Pengumuman ini sudah selesai." in again.text


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"words": ""}, "Isi pengumumannya dulu."),
        ({"words": "x" * (WORDS_LONGEST + 1)}, "Pengumuman terlalu panjang: 201 huruf."),
        ({"start_day": day(-1)}, "Waktu mulai sudah lewat."),
        ({"end_day": day(-1)}, "Waktu selesai sudah lewat."),
        ({"end_day": day(0), "end_time": "11.00"}, "Waktu selesai sudah lewat."),
        ({"start_day": day(3), "end_day": day(2)}, "Waktu selesai harus setelah waktu mulai."),
        ({"end_day": "2062-01-01"}, "Periksa tahunnya."),
        ({"end_day": "besok"}, 'Tanggal "besok" tidak bisa dibaca.'),
        ({"end_day": "31/02/2027"}, 'Tanggal "31/02/2027" tidak bisa dibaca.'),
        ({"start_time": "25:00"}, 'Jam "25:00" tidak bisa dibaca.'),
    ],
)
def test_a_mistake_is_said_and_what_was_typed_stays(
    shared: Desk, fields: dict[str, str], sentence: str
) -> None:
    page = announce(shared.sign_in("sari"), **{"words": "Kerja bakti Minggu.", **fields})
    assert page.status == 400 and sentence in page.alert
    assert fields.get("words", "Kerja bakti Minggu.") in page.html
    assert 'aria-invalid="true"' in page.html
    assert shared.node.notices.live(1) == []


def test_the_same_words_twice_and_a_full_wall_are_refused(d: Desk) -> None:
    sari = d.sign_in("sari")
    announce(sari, "Nomor 0.")
    assert "Pengumuman yang sama sudah ada." in announce(sari, "Nomor  0.").alert
    for n in range(1, KEPT_MOST):
        announce(sari, f"Nomor {n}.")
    page = sari.get(PATH)
    assert f"Sudah ada {KEPT_MOST} pengumuman. Akhiri satu dulu." in page.text
    answer = sari.send(PATH, {"csrf": sari.csrf(), "words": "Satu lagi."})
    assert answer.status == 400 and len(d.node.notices.live(1)) == KEPT_MOST


def test_a_form_sent_twice_announces_once(d: Desk) -> None:
    sari = d.sign_in("sari")
    form = sari.get(PATH)
    for _ in range(2):
        page = sari.submit(form, action=PATH, words="Sekali saja.")
        assert page.status == 200
    assert len(d.node.notices.live(1)) == 1


def test_a_reviewer_reads_and_cannot_announce(d: Desk) -> None:
    announce(d.sign_in("sari"), "Terbuka untuk semua.")
    tinjau = d.sign_in("tinjau")
    page = tinjau.get(PATH)
    assert "Terbuka untuk semua." in page.text and "Umumkan" not in page.text
    assert tinjau.send(PATH, {"csrf": tinjau.csrf(), "words": "Tidak."}).status == 403


def command(d: Desk, **changes: str) -> dict[str, object]:
    """`pesisir site set TANJUNG`."""
    arguments = {"code": "TANJUNG", "changes": changes}
    work = commands.execute(d.node, "set_site", arguments, lambda done, total: None)
    found = d.do(work)
    assert isinstance(found, dict)
    return found


def test_the_command_line_has_one_announcement_without_an_end(d: Desk) -> None:
    assert command(d, announcement="Ronda  malam")["announcement"] == "Ronda malam"
    announce(d.sign_in("sari"), "Dengan akhir.", end_day=day(1))
    assert command(d, announcement="Ronda pagi")["announcement"] == "Ronda pagi"
    assert d.node.notices.running(1) == ("Dengan akhir.", "Ronda pagi")
    assert d.last_deed()["details"] == "Ronda malam -> Ronda pagi"
    assert command(d, announcement="")["announcement"] == ""
    assert d.node.notices.running(1) == ("Dengan akhir.",)
    with pytest.raises(DeskError, match="201 characters"):
        command(d, announcement="x" * 201, helper="Pak Budi")
    assert d.node.admin.site("TANJUNG").helper != "Pak Budi"


def test_what_runs_survives_a_restart(tmp_path: Path) -> None:
    from portal.notices import Notices
    from portal.store.notices import NoticeStore

    with desk(tmp_path) as d:
        announce(d.sign_in("sari"), "Masih ada.")
        announce(d.sign_in("sari"), "Nanti.", start_day=day(2))
        again = d.call(
            lambda: Notices(NoticeStore(d.node.store.database), d.node.admin, now=d.node.now)
        )
        assert again.running(1) == ("Masih ada.",)
        assert [one.words for one in again.live(1)] == ["Masih ada.", "Nanti."]


def test_dates_and_times_are_read_as_people_write_them() -> None:
    noon = NOON_AT
    for date in ("2026-11-21", "21/11/2026", "21-11-2026", "21.11.2026", "2026-11-21 "):
        for time in ("12:00", "12.00", "12", "12:00:00"):
            assert moment(date, time, MAKASSAR) == noon
    assert AHEAD_MOST_S > 365 * 86_400


def test_one_that_was_ended_before_it_began_was_called_off(d: Desk) -> None:
    sari = d.sign_in("sari")
    page = announce(sari, "Tidak jadi.", start_day=day(2))
    made = d.node.notices.live(1)[0].id
    page = sari.submit(page, action=f"{PATH}/{made}/end")
    assert "Dibatalkan hari ini pukul 12.00 WITA." in page.text


# --- forms and tabs


def test_a_form_is_of_the_site_its_page_was_made_for(d: Desk) -> None:
    kepala = d.enter("kepala")
    page = kepala.get(f"{PATH}?site=TANJUNG")
    # In another tab.
    kepala.get("/operator/?site=WAISAI")
    kepala.submit(page, action=PATH, words="Ronda di Tanjung.")
    assert d.last_deed()["object"] == "TANJUNG"
    # The site that was chosen last stays chosen.
    assert "Ronda di Tanjung." not in kepala.get(PATH).text
    # Whose site it is not, the form does not make it.
    sari = d.enter("sari")
    sari.submit(sari.get(PATH), action=PATH, words="Coba.", of_site="WAISAI")
    assert d.last_deed()["object"] == "TANJUNG"


def test_two_forms_of_one_page_are_two_deeds(d: Desk) -> None:
    sari = d.enter("sari")
    announce(sari, "Satu.")
    page = announce(sari, "Dua.")
    ends = sorted({form.action for form in forms_of(page) if form.action.endswith("/end")})
    assert len(ends) == 2
    for action in ends:
        sari.submit(page, action=action)
    assert "Satu." not in resident(d) and "Dua." not in resident(d)
