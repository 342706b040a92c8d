"""Documents: each change is a signed version, refused where no node would take it; wanted and
actual state of each site; boxes and alarms by their pages.
"""

from typing import Any

import pytest

from portal import passwords
from portal.domain import document, note
from portal.signing import verify
from tests.unit.hub_pages.office import Office, OfficePerson
from tests.unit.web.village import Page


def newest(hub: Office, name: str, scope: str = "all") -> document.Document:
    """The newest version of a document, its signature checked."""
    rows = hub.all(
        "SELECT note FROM document WHERE name = ? AND scope = ? ORDER BY version", name, scope
    )
    found = note.parse_note(rows[-1]["note"])
    assert note.is_signed(found, hub.hub.keys.documents_key, verify)
    return document.parse(found.text)


def change(person: OfficePerson, doc: str, scope: str = "all", /, **typed: Any) -> Page:
    page = person.get(f"/review/documents/{doc}?scope={scope.replace(' ', '+')}")
    return person.submit(page, action=f"/review/documents/{doc}", **typed)


def test_a_profile_is_signed_version_by_version(hub: Office) -> None:
    person = hub.enter("ketua")
    change(person, "profiles", name="harian", data_day="500MB")
    page = change(person, "profiles", name="mingguan", valid="7d")
    assert "Versi baru ditandatangani" in page.text
    found = newest(hub, "profiles")
    assert (found.version, dict(found.content)) == (
        2,
        {"profiles": {"harian": {"data_day": "500MB"}, "mingguan": {"valid": "7d"}}},
    )
    person.submit(page, action="/review/documents/profiles/remove", entry="harian")
    assert newest(hub, "profiles").content == {"profiles": {"mingguan": {"valid": "7d"}}}


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("profiles", {"name": "harian", "data_day": "banyak"}),
        ("profiles", {"name": "nama salah!"}),
        ("announcements", {"words": "  "}),
        ("announcements", {"words": "Libur", "from": "2026-12-02", "to": "2026-12-01"}),
        ("blocked", {"mac": "bukan", "reason": "uji"}),
        ("blocked", {"mac": "02:aa:bb:cc:dd:ee", "reason": ""}),
        ("settings", {"opening_hours": "siang"}),
        ("settings", {"without_node": "entah"}),
    ],
)
def test_what_no_node_would_take_is_not_signed(
    hub: Office, name: str, typed: dict[str, str]
) -> None:
    page = change(hub.enter("ketua"), name, **typed)
    assert page.status == 200 and page.alert
    assert hub.all("SELECT 1 AS one FROM document") == []


def test_announcements_blocked_phones_and_settings_go_to_a_group_or_site(hub: Office) -> None:
    person = hub.enter("ketua")
    hub.add_site("WSI", "Desa Waisai", group="utara")
    change(person, "announcements", "group utara", words="Libur 17 Agustus", to="2026-12-01")
    change(person, "blocked", mac="02-AA-BB-CC-DD-EE", reason="menyebar virus")
    change(person, "settings", "site WSI", helper="Ibu Sari", power_window="6:00-22:00")
    (said,) = newest(hub, "announcements", "group utara").content["announcements"]
    assert said["words"] == "Libur 17 Agustus" and said["ends_at"] > hub.at
    assert newest(hub, "blocked").content["blocked"] == [
        {"mac": "02aabbccddee", "reason": "menyebar virus"}
    ]
    assert newest(hub, "settings", "site WSI").content["site"]["helper"] == "Ibu Sari"


def test_the_page_says_what_each_site_should_have_and_has(hub: Office) -> None:
    node = hub.add_box("TJL")
    hub.add_site("WSI", "Desa Waisai")
    person = hub.enter("ketua")
    change(person, "profiles", name="harian")
    assert "belum sampai" in person.get("/review/documents").text
    assert "belum ada kotak" in person.get("/review/documents").text
    hub.write(
        "INSERT INTO document_state (node_id, name, scope, held_version, held_at)"
        " VALUES (?, 'profiles', 'all', 1, ?)",
        [(node, hub.at)],
    )
    assert "1 lokasi sudah memakai" in hub.enter("tinjau").get("/review/documents").text
    change(person, "profiles", name="mingguan")
    assert "1 masih versi lama" in person.get("/review/documents").text
    assert "masih versi 1" in person.get("/review/documents/profiles").text
    hub.write(
        "UPDATE document_state SET refused_version = ?, refused_why = ? WHERE node_id = ?",
        [(2, "no room for it", node)],
    )
    text = person.get("/review/documents/profiles").text
    assert "ditolak kotak; yang lama tetap berlaku" in text and "no room for it" in text
    assert "1 ditolak kotak" in person.get("/review/documents").text


def test_limits_are_typed_and_read_in_plain_words(hub: Office) -> None:
    person = hub.enter("ketua")
    typed = {"data_day": "1 GB", "time_day": "2 jam", "valid": "30 hari", "when_used_up": "128k"}
    change(person, "profiles", name="harian", hours="6.00-22.00", **typed)
    assert newest(hub, "profiles").content["profiles"]["harian"] == {
        "data_day": "1 GB",
        "time_day": "2h",
        "valid": "30d",
        "when_used_up": "throttle:128k",
        "hours": "06:00-22:00",
    }
    text = hub.enter("tinjau").get("/review/documents/profiles").text
    assert "1 GB per hari, 2 jam per hari" in text.replace("\u00a0", " ")
    form = person.get("/review/documents/profiles?entry=harian")
    values = form.fields
    assert (values["name"], values["time_day"], values["hours"]) == (
        "harian",
        "2 jam",
        "06.00-22.00",
    )
    page = change(person, "profiles", name="harian", time_day="lama sekali")
    assert page.alert.startswith("Waktu per hari:")


def test_a_stored_document_that_was_changed_is_said_to_be_damaged(hub: Office) -> None:
    hub.heard(hub.add_box("TJL"))
    person = hub.enter("ketua")
    change(person, "profiles", name="harian", data_day="500MB")
    hub.write("UPDATE document SET note = REPLACE(note, '500MB', '900MB')", [()])
    assert "tanda tangan rusak di kantor" in person.get("/review/documents").text
    assert "Simpan aturan ini sekali lagi" in person.get("/review/documents/profiles").text
    change(person, "profiles", name="harian", data_day="500MB")
    assert "rusak" not in person.get("/review/documents").text


def test_a_document_of_another_program_is_shown_as_it_is(hub: Office) -> None:
    content = {"profiles": {"harian": {"data_fortnight": "9GB"}}}
    hub.do(hub.hub.documents.publish("profiles", "all", content, by="x", now=hub.at))
    person = hub.enter("ketua")
    assert "data_fortnight 9GB" in person.get("/review/documents/profiles").text
    assert person.get("/review/documents/profiles?entry=harian").status == 200


def test_what_is_wrong_is_said_in_indonesian(hub: Office) -> None:
    person = hub.enter("ketua")
    for doc, typed, said in (
        ("profiles", {"name": "paket besar"}, "Nama paket"),
        ("announcements", {"words": " "}, "Tulis isi pengumuman"),
        (
            "announcements",
            {"words": "Libur", "from": "2026-12-02", "to": "2026-12-01"},
            "Tanggal akhir lebih awal",
        ),
        ("blocked", {"mac": "02:aa:bb:cc:dd:ee", "reason": " "}, "Tulis alasan"),
        ("settings", {"opening_hours": "siang"}, "Jam buka untuk minta kartu"),
    ):
        assert change(person, doc, **typed).alert.startswith(said)


def test_a_group_names_its_sites_for_boxes_that_have_more(hub: Office) -> None:
    """A box knows of no groups: what is for one names the sites, and follows them."""
    person, group = hub.enter("ketua"), "group utara"
    hub.add_site("WSI", "Desa Waisai", group="utara")
    change(person, "announcements", group, words="Libur")
    change(person, "profiles", group, name="harian")
    assert newest(hub, "announcements", group).content["sites"] == ["WSI"]
    assert "sites" not in newest(hub, "profiles", group).content
    hub.add_site("RAJ", "Raja Ampat", group="utara")
    assert newest(hub, "announcements", group).content["sites"] == ["RAJ", "WSI"]
    page = person.get("/review/site/WSI/settings")
    person.submit(page, group_name="selatan")
    found = newest(hub, "announcements", group)
    assert (found.version, found.content["sites"]) == (3, ["RAJ"])
    assert newest(hub, "profiles", group).version == 1


def test_a_box_whose_site_left_a_group_is_told_so(hub: Office) -> None:
    hub.add_site("WSI", "Desa Waisai", group="utara")
    node, documents = hub.add_box("WSI"), hub.hub.documents
    person = hub.enter("ketua")
    change(person, "announcements", "group utara", words="Libur")
    hub.write(
        "INSERT INTO document_state (node_id, name, scope, held_version, held_at)"
        " VALUES (?, 'announcements', 'group utara', 1, 0)",
        [(node,)],
    )
    person.submit(person.get("/review/site/WSI/settings"), group_name="")
    (standing,) = hub.do(documents.standings(node))
    assert (standing.wanted_version, standing.state) == (2, "waiting")


def test_the_form_on_top_leads_to_a_document(hub: Office) -> None:
    person = hub.enter("tinjau")
    page = person.submit(person.get("/review/documents"), open="blocked", scope="site TJL")
    assert "HP yang diblokir: lokasi Desa Tanjung" in page.text
    assert person.request("GET", "/review/documents?open=x").status == 404


def test_a_reset_shows_the_password_once_and_signs_its_hash(hub: Office) -> None:
    person = hub.enter("ketua")
    page = person.get("/review/documents")
    form: dict[str, Any] = {"action": "/review/documents/reset", "site": "TJL", "operator": "Sari"}
    shown = person.submit(page, **form)
    content = newest(hub, "reset", "site TJL").content
    assert content["operator"] == "sari"
    words = [word for word in shown.text.split() if word.count("-") == 3]
    assert passwords.fits(words[0], content["password_hash"])
    # The same form once more makes no second password.
    person.submit(page, **form)
    assert newest(hub, "reset", "site TJL").version == 1


# --- boxes


def test_a_new_site_shows_its_token_once(hub: Office) -> None:
    person = hub.enter("ketua")
    page = person.get("/review/boxes")
    shown = person.submit(page, action="/review/boxes", code="wsi", name="Desa Waisai")
    assert "pesisir enrol https://127.0.0.1" in shown.text
    assert 'download="pesisir-WSI.enrol"' in shown.html
    again = person.submit(page, action="/review/boxes", code="wsi", name="Desa Waisai")
    assert "pesisir enrol https://" not in again.text
    assert len(hub.all("SELECT 1 AS one FROM enrolment WHERE site = 'WSI'")) == 1


@pytest.mark.parametrize(
    "typed", [{"code": "TJL", "name": "Lagi"}, {"code": "a b", "name": "X"}, {"code": "X"}]
)
def test_a_site_that_cannot_be_is_refused_with_what_was_typed(
    hub: Office, typed: dict[str, Any]
) -> None:
    person = hub.enter("ketua")
    page = person.submit(person.get("/review/boxes"), action="/review/boxes", **typed)
    assert page.alert and typed["code"] in page.html


def waiting(hub: Office, person: OfficePerson) -> Page:
    """The page of a box that waits."""
    hub.write(
        "UPDATE enrolment SET state = 'pending', node_id = ?, signing = ?, sealing = ?, words = ?,"
        " presented_at = ? WHERE site = 'TJL'",
        [("e" * 16, bytes(32), bytes(32), "abad garuda dadu rajin kayu sirih", hub.at)],
    )

    async def known() -> None:
        store = hub.hub.store
        async with store.database.transaction() as transaction:
            await store.add_node(transaction, "e" * 16, bytes(32), bytes(32), hub.at)

    hub.do(known())
    (row,) = hub.all("SELECT token_id FROM enrolment WHERE state = 'pending'")
    return person.get(f"/review/boxes/waiting/{row['token_id']}")


def test_who_approves_types_the_words_and_does_not_see_them(hub: Office) -> None:
    person = hub.enter("ketua")
    page = waiting(hub, person)
    assert "garuda" not in page.html
    wrong = person.submit(page, words="abad garuda dadu rajin kayu tari")
    assert "bukan milik kotak ini" in wrong.alert and "garuda" in wrong.html
    done = person.submit(page, words="Abad, Garuda, dadu; rajin kayu SIRIH")
    assert "disetujui" in done.text
    assert hub.deeds()[-1]["deed"] == "enrolment.approve"


def test_a_box_is_refused_with_a_reason(hub: Office) -> None:
    person = hub.enter("ketua")
    page = waiting(hub, person)
    assert person.submit(page, form=2, reason="").alert
    assert "ditolak" in person.submit(page, form=2, reason="bukan kotak kami").text


def test_revoking_asks_for_a_reason_and_the_end_of_the_name(hub: Office) -> None:
    node = hub.add_box("TJL")
    person = hub.enter("ketua")
    page = person.get(f"/review/boxes/box/{node}")
    assert person.submit(page, node="0000", reason="kotak dicuri").alert
    assert person.submit(page, node=node[-4:], reason="").alert
    assert "Kotak dicabut" in person.submit(page, node=node[-4:], reason="kotak dicuri").text
    (row,) = hub.all("SELECT state FROM node")
    assert row["state"] == "revoked"


# --- alarms


def test_an_alarm_shows_both_sides_and_ends_with_a_reason(hub: Office) -> None:
    node = hub.add_box("TJL")
    row = (node, hub.at, hub.at)
    hub.write(
        "INSERT INTO alarm (node_id, kind, alarm_key, first_at, last_at, count, detail)"
        " VALUES (?, 'fork', 'a/b c', ?, ?, 1, 'another root at 12')",
        [row],
    )
    hub.write(
        "INSERT INTO evidence (node_id, kind, alarm_key, side, what, octets, at)"
        " VALUES (?, 'fork', 'a/b c', ?, 'note', ?, ?)",
        [(node, "node", b"pesisir/node\n12\n", hub.at), (node, "hub", b"\xff\x00", hub.at)],
    )
    person = hub.enter("ketua")
    assert "1 peringatan" in person.get("/review/").text
    page = person.get(f"/review/alarms/one?node={node}&kind=fork&key=a%2Fb+c")
    assert "pesisir/node" in page.text and "ff 00" in page.text
    assert person.submit(page, reason="x").alert
    assert "dinyatakan selesai" in person.submit(page, reason="kotak diganti, sah").text
    assert hub.deeds()[-1]["reason"] == "kotak diganti, sah"
    assert "Tidak ada peringatan" in person.get("/review/alarms").text
