"""Who may sign in, what everybody did, and forms that are sent twice."""

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from portal.audit import PAGE
from portal.errors import DeskError
from portal.store.audit import INSERT, Deed
from portal.store.db import DatabaseError
from tests.unit.web.desk import PASSWORD, Desk, Person, add_operator, desk
from tests.unit.web.village import Page

PEOPLE = "/operator/people"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("desk")) as found:
        yield found


def form_of_people(kepala: Person) -> dict[str, str]:
    from tests.unit.web.desk import forms_of

    return dict(forms_of(kepala.get(PEOPLE))[0].fields)


def password_on(page: Page) -> str | None:
    found = re.search(r"\b([a-z2-9]{4}(?:-[a-z2-9]{4}){3})\b", page.text)
    return None if found is None else found[1]


# --- people


def test_an_admin_adds_somebody_who_must_change_the_password_shown_once(place: Desk) -> None:
    kepala = place.enter("kepala")
    page = kepala.submit(kepala.get(PEOPLE), name=" Budi ", role="operator", at="WAISAI")
    password = password_on(page)
    assert password is not None
    budi = place.node.operators.operator("budi")
    assert (budi.role, budi.site_id, budi.must_change) == ("operator", 2, True)
    deed = place.last_deed()
    assert (deed["operator"], deed["action"], deed["object"]) == ("kepala", "operator.add", "budi")
    assert deed["site_id"] == 2
    assert password not in str(place.deeds())
    for path in (PEOPLE, f"{PEOPLE}/budi", "/operator/audit"):
        assert password not in kepala.get(path).html
    place.sign_in("budi", password)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "sari"}, "sudah dipakai"),
        ({"name": "ibu sari"}, "Pakai huruf kecil dan angka"),
        ({"name": ""}, "Pakai huruf kecil dan angka"),
        ({"name": "x" * 33}, "Pakai huruf kecil dan angka"),
        ({"name": "../x"}, "Pakai huruf kecil dan angka"),
        ({"name": "baik", "role": "raja"}, "Peran raja tidak ada"),
    ],
)
def test_a_bad_name_or_role_is_explained_and_what_was_typed_stays(
    place: Desk, fields: dict[str, str], words: str
) -> None:
    kepala = place.enter("kepala")
    before = len(place.node.operators.all())
    sent = {**form_of_people(kepala), "role": "operator", "at": "*", **fields}
    page = kepala.send(PEOPLE, sent)
    assert words in page.alert
    assert len(place.node.operators.all()) == before
    assert f'value="{fields["name"]}"' in page.html


def test_an_admin_is_always_for_every_site(place: Desk) -> None:
    kepala = place.enter("kepala")
    kepala.submit(kepala.get(PEOPLE), name="wakil", role="admin", at="TANJUNG")
    assert place.node.operators.operator("wakil").site_id is None
    with pytest.raises(DeskError, match="leave the site out"):
        place.do(place.node.operators.add("lain", "admin", ["TANJUNG"]))


def test_somebody_works_at_two_sites_and_is_moved_to_one(place: Desk) -> None:
    place.do(place.node.admin.add_site("SORONG", "WiFi Desa Sorong", "Asia/Jayapura"))
    kepala = place.enter("kepala")
    fields = form_of_people(kepala) | {"name": "keliling", "role": "operator", "at": ""}
    page = kepala.send(PEOPLE, {key: value for key, value in fields.items() if key != "at"})
    assert "Pilih lokasi kerjanya." in page.alert, "no site must not mean every site"
    assert place.node.operators.find("keliling") is None
    operators = place.node.operators
    place.do(add_operator(operators, "keliling", "operator", "TANJUNG"))
    place.do(operators.change("keliling", "operator", ["TANJUNG", "WAISAI"], "tambah", "kepala"))
    assert place.last_deed()["details"] == "operator: TANJUNG -> operator: TANJUNG, WAISAI"
    # Both are theirs, the third is not; so it is when they are read from the disk again.
    place.do(add_operator(operators, "tamu", "reviewer", None))
    person = place.enter("keliling")
    home = person.get("/operator?site=WAISAI")
    assert "Waisai" in home.text and "Sorong" not in home.text
    assert "Tanjung" in person.get("/operator/me").text
    kepala = place.enter("kepala")
    page = kepala.get(f"{PEOPLE}/keliling")
    assert page.html.count(" checked") == 3, "the role and both sites are ticked"
    action = f"{PEOPLE}/keliling/role"
    sent = {"csrf": kepala.csrf(), "role": "reviewer", "at": "WAISAI", "reason": ""}
    assert "alasan" in kepala.send(action, sent).alert.lower()
    assert kepala.send(action, sent | {"reason": "pindah"}).status == 303
    assert "Peran peninjau Lokasi WiFi Desa Waisai" in kepala.get(f"{PEOPLE}/keliling").text
    deed = place.last_deed()
    assert (deed["action"], deed["reason"]) == ("operator.change", "pindah")
    assert deed["details"] == "operator: TANJUNG, WAISAI -> reviewer: WAISAI"
    assert "petugas: TANJUNG, WAISAI \u2192 peninjau: WAISAI" in kepala.get("/operator/audit").text
    # At once, without a new sign-in.
    assert "Tanjung" not in person.get("/operator").text
    assert person.get("/operator/give").status == 403
    assert "Tidak ada yang berubah" in kepala.send(action, sent | {"reason": "lagi"}).alert
    own = kepala.send(f"{PEOPLE}/kepala/role", sent | {"reason": "saya"})
    assert "admin lain" in own.alert
    if operators.find("wakil") is not None:
        place.do(operators.remove("wakil"))
    with pytest.raises(DeskError, match="last admin"):
        place.do(place.node.operators.change("kepala", "reviewer", [], "habis"))


def test_a_forgotten_password_is_replaced(place: Desk) -> None:
    place.do(add_operator(place.node.operators, "pelupa", "operator", "TANJUNG"))
    kepala = place.enter("kepala")
    page = kepala.get(f"{PEOPLE}/pelupa")
    page = kepala.submit(page, action=f"{PEOPLE}/pelupa/password")
    password = password_on(page)
    assert password is not None
    assert place.last_deed()["action"] == "operator.password"
    place.sign_in("pelupa", password)
    # One's own is changed in its own place, with the old one.
    page = kepala.send(f"{PEOPLE}/kepala/password", {"csrf": kepala.csrf()})
    assert page.status == 400
    assert "Akun saya" in page.alert


def test_somebody_is_removed_only_when_the_name_is_typed(place: Desk) -> None:
    place.do(add_operator(place.node.operators, "lama", "reviewer", None))
    kepala = place.enter("kepala")
    action = f"{PEOPLE}/lama/remove"
    page = kepala.submit(kepala.get(f"{PEOPLE}/lama"), action=action, name="lam")
    assert "Ketik lama" in page.alert
    assert place.node.operators.find("lama") is not None
    page = kepala.submit(page, action=action, name="Lama")
    assert "lama sudah dihapus." in page.text
    assert place.node.operators.find("lama") is None
    assert place.last_deed()["action"] == "operator.remove"
    assert kepala.get(f"{PEOPLE}/lama").status == 404


def test_nobody_removes_themselves_or_the_last_admin(place: Desk) -> None:
    kepala = place.enter("kepala")
    page = kepala.send(f"{PEOPLE}/kepala/remove", {"csrf": kepala.csrf(), "name": "kepala"})
    assert "diri sendiri" in page.alert
    if place.node.operators.find("wakil") is not None:
        place.do(place.node.operators.remove("wakil"))
    with pytest.raises(DeskError, match="kepala is the last admin"):
        place.do(place.node.operators.remove("kepala"))


def test_two_admins_adding_one_name_at_once_make_one(place: Desk) -> None:
    async def both() -> list[str]:
        async def one() -> str:
            try:
                return await place.node.operators.add("kembar", "operator", ["TANJUNG"], "kepala")
            except DeskError as error:
                return error.key

        return list(await asyncio.gather(one(), one()))

    assert sorted(len(answer) for answer in place.do(both())) == [14, 19]


# --- a form sent twice


def test_a_form_sent_twice_makes_one_and_tells_the_password_once(place: Desk) -> None:
    kepala = place.enter("kepala")
    fields = form_of_people(kepala) | {"name": "ganda", "role": "operator", "at": "TANJUNG"}
    first = kepala.send(PEOPLE, fields)
    assert password_on(first) is not None
    second = kepala.send(PEOPLE, fields)
    assert (second.status, second.headers["location"]) == (303, f"{PEOPLE}/ganda")
    added = [deed for deed in place.deeds() if deed["object"] == "ganda"]
    assert len(added) == 1


def test_a_form_sent_twice_at_once_waits_for_the_first(place: Desk) -> None:
    kepala = place.enter("kepala")
    fields = form_of_people(kepala) | {"name": "serentak", "role": "operator", "at": "TANJUNG"}
    with ThreadPoolExecutor(6) as pool:
        pages = list(pool.map(lambda _: kepala.send(PEOPLE, fields), range(6)))
    assert sorted(page.status for page in pages) == [200, 303, 303, 303, 303, 303]
    assert sum(password_on(page) is not None for page in pages) == 1
    assert len([deed for deed in place.deeds() if deed["object"] == "serentak"]) == 1


def test_a_form_that_was_wrong_may_be_sent_again(place: Desk) -> None:
    kepala = place.enter("kepala")
    fields = form_of_people(kepala) | {"role": "operator", "at": "TANJUNG"}
    assert "alert" in kepala.send(PEOPLE, fields | {"name": "Salah Nama"}).html
    assert password_on(kepala.send(PEOPLE, fields | {"name": "betul"})) is not None


def test_a_forms_token_is_good_for_ten_minutes_and_for_one_sign_in(place: Desk) -> None:
    kepala = place.enter("kepala")
    fields = form_of_people(kepala) | {"name": "sebentar", "role": "operator", "at": "TANJUNG"}
    kepala.send(PEOPLE, fields)
    other = place.enter("kepala")
    page = other.send(PEOPLE, fields | {"csrf": other.csrf()})
    assert "sudah dipakai" in page.alert
    place.pass_time(601)
    assert "sudah dipakai" in kepala.send(PEOPLE, fields).alert


def test_a_notice_is_shown_once(place: Desk) -> None:
    place.do(add_operator(place.node.operators, "pergi", "reviewer", None))
    kepala = place.enter("kepala")
    page = kepala.submit(
        kepala.get(f"{PEOPLE}/pergi"), action=f"{PEOPLE}/pergi/remove", name="pergi"
    )
    assert "pergi sudah dihapus." in page.text
    address = page.url
    assert "sudah dihapus" not in kepala.get(address).text
    forged = re.sub(r"n=[^&]+", "n=WyJ4Il0.x", address)
    assert kepala.get(forged).status == 200
    # Somebody who is sent the address a while later is told nothing that is not so any more.
    place.pass_time(200)
    assert "sudah dihapus" not in place.enter("kepala").get(address).text


# --- sites and menu


def test_who_works_at_one_site_stays_there_and_others_switch(place: Desk) -> None:
    sari, kepala = place.enter("sari"), place.enter("kepala")
    assert "WiFi Desa Tanjung" in sari.get("/operator/me?site=WAISAI").text
    assert "WiFi Desa Waisai" not in sari.get("/operator/me").text
    header = '<span class="where"> WiFi Desa Waisai</span>'
    assert header in kepala.get("/operator/me?site=WAISAI").html
    # It is remembered, and a site that does not exist changes nothing.
    assert header in kepala.get("/operator/me").html
    assert header in kepala.get("/operator/me?site=NOWHERE").html


def test_the_menu_shows_what_may_be_opened(place: Desk) -> None:
    reviewer, admin = place.enter("tinjau").get("/operator/me"), place.enter("kepala").get(PEOPLE)
    assert PEOPLE in admin.links.values()
    assert PEOPLE not in reviewer.links.values()
    assert "/operator/give" not in reviewer.links.values()
    assert "/operator/audit" in reviewer.links.values()


# --- the audit


def test_nobody_can_change_or_delete_a_line(place: Desk) -> None:
    database = place.node.store.database
    for statement in ("UPDATE audit SET reason = 'x'", "DELETE FROM audit"):

        async def attempt(statement: str = statement) -> None:
            async with database.transaction() as transaction:
                await transaction.run(statement)

        with pytest.raises(DatabaseError, match="append-only"):
            place.do(attempt())


def test_a_deed_that_fails_leaves_no_line(place: Desk) -> None:
    before = place.deeds()
    with pytest.raises(DeskError):
        place.do(place.node.operators.add("sari", "operator", ["TANJUNG"]))
    assert place.deeds() == before


def test_operators_read_their_sites_lines_and_admins_all(place: Desk) -> None:
    record = place.node.operators.record
    place.do(record(Deed("sari", "voucher.revoke", 1, "A900-01", "hilang di pantai")))
    place.do(record(Deed("wayan", "voucher.revoke", 2, "A901-01", "hilang di gunung")))
    place.do(record(Deed("kepala", "profile.set", None, "mingguan")))
    for name, seen in (
        ("sari", (True, False, False)),
        ("tinjau", (True, False, False)),
        ("wayan", (False, True, False)),
        ("kepala", (True, True, True)),
        ("dinas", (True, True, True)),
    ):
        text = place.enter(name).get("/operator/audit").text
        assert ("pantai" in text, "gunung" in text, "mingguan" in text) == seen, name
    kepala = place.enter("kepala")
    one_site = kepala.get("/operator/audit?site=WAISAI").text
    assert "gunung" in one_site and "pantai" not in one_site


def test_the_audit_is_filtered_by_object_and_by_person(place: Desk) -> None:
    place.do(place.node.operators.record(Deed("sari", "voucher.extend", 1, "A902-07", "libur")))
    kepala = place.enter("kepala")
    page = kepala.get("/operator/audit")
    page = kepala.submit(page, object="A902-07")
    assert "Memperpanjang kartu" in page.text
    assert page.text.count("sari") == 1
    page = kepala.get("/operator/audit?operator=wayan")
    assert "gunung" in page.text and "pantai" not in page.text
    assert "Belum ada catatan." in kepala.get("/operator/audit?object=nothing").text
    for bad in ("before=x", "before=-1", "before=99999999999999999999", "object=%00%27--"):
        assert kepala.get(f"/operator/audit?{bad}").status == 200


def test_the_audit_is_leafed_through_by_key(place: Desk) -> None:
    rows = [Deed("sari", "voucher.give", 1, f"A903-{n:03d}").row(1_795_233_600) for n in range(130)]
    place.do(place.node.store.database.write([(INSERT, rows)]))
    kepala = place.enter("kepala")
    seen: list[str] = []
    page = kepala.get("/operator/audit?operator=sari&site=TANJUNG")
    while True:
        found = re.findall(r">(A903-\d{3})<", page.html)
        assert len(found) <= PAGE
        seen += found
        if "Lebih lama" not in page.links:
            break
        # New lines in between move nothing.
        place.do(place.node.operators.record(Deed("sari", "voucher.give", 1, "A999-01")))
        page = kepala.click(page, "Lebih lama")
        assert "Terbaru" in page.links
    assert seen == [f"A903-{n:03d}" for n in reversed(range(130))]


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        (Deed("kepala", "operator.add", None, "x", details="reviewer"), "peninjau"),
        (Deed("sari", "session.disconnect", 1, "A1", details="session 7 at pos"), "di pos"),
        (Deed("sari", "device.add", 1, "02", details="absen (office), harian"), "absen (Komputer"),
        (Deed("sari", "voucher.print", 1, "A1", details="4 of 6 cards"), "4 dari 6"),
        (Deed("x", "gateway.set", 1, "pos", details="secret: changed"), "secret: diganti"),
        (Deed("x", "site.set", 1, "T", details="helper: - -> Bu Sari"), "- → Bu Sari"),
    ],
)
def test_details_are_said_in_indonesian(place: Desk, deed: Deed, words: str) -> None:
    place.do(place.node.operators.record(deed))
    assert words in place.enter("kepala").get("/operator/audit?").text


def test_signing_in_and_out_is_recorded(place: Desk) -> None:
    sari = place.sign_in("sari", PASSWORD)
    sari.send("/operator/sign-out", {"csrf": sari.csrf()})
    actions = [deed["action"] for deed in place.deeds()[-2:]]
    assert actions == ["sign_in", "sign_out"]
