"""Signing in at the operator's desk: passwords, misses, idleness, cookies."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator

import pytest

from portal import passwords
from portal.operators import SignInRefused
from tests.unit.web.desk import PASSWORD, Desk, Person, add_operator, desk, forms_of
from tests.unit.web.signing_in import NEW, cookies_of, csrf_of, is_in, try_in


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("desk")) as found:
        yield found


@pytest.fixture(autouse=True)
def long_after(place: Desk) -> None:
    """Misses of the test before are forgotten."""
    place.pass_time(3_600)


# --- the password


def test_who_is_not_signed_in_is_led_to_the_sign_in_and_back(place: Desk) -> None:
    sari = Person(place, "sari")
    page = sari.request("GET", "/operator/audit?object=A001-01")
    assert page.status == 303
    page = sari.follow(page)
    page = sari.submit(page, name="sari", password=PASSWORD)
    assert page.status == 200
    assert page.url.endswith("/operator/audit?object=A001-01")


def test_a_name_is_known_however_it_is_typed(place: Desk) -> None:
    sari = Person(place, "sari")
    try_in(sari, " Sari ", PASSWORD)
    assert is_in(sari)


@pytest.mark.parametrize(
    ("name", "password"),
    [("sari", "salah"), ("nobody", PASSWORD), ("sari", ""), ("", ""), ("SA RI'--", "x" * 3_000)],
)
def test_a_wrong_name_and_a_wrong_password_get_the_same_answer(
    place: Desk, name: str, password: str
) -> None:
    person = Person(place, name)
    page = try_in(person, name, password)
    assert page.status == 200
    assert page.alert.strip() == "Nama atau kata sandi salah. Periksa, lalu coba lagi."
    assert not is_in(person)
    assert f'value="{password}"' not in page.html or not password


@pytest.mark.parametrize(
    "to",
    [
        "https://example.org/",
        "//example.org/operator/",
        "/operator//example.org",
        "/status",
        "/operator/../status\r\nX: y",
        "/operator/sign-in",
    ],
)
def test_the_way_back_leads_nowhere_else(place: Desk, to: str) -> None:
    sari = Person(place, "sari")
    page = sari.get("/operator/sign-in")
    fields = dict(forms_of(page)[0].fields) | {"name": "sari", "password": PASSWORD, "to": to}
    answer = sari.send("/operator/sign-in", fields)
    assert (answer.status, answer.headers["location"]) == (303, "/operator/")


def test_cookies_are_kept_from_scripts_and_other_sites(place: Desk) -> None:
    sari = Person(place, "sari")
    page = sari.get("/operator/sign-in")
    fields = dict(forms_of(page)[0].fields) | {"name": "sari", "password": PASSWORD}
    cookie = cookies_of(sari.send("/operator/sign-in", fields))["pesisir_desk"]
    assert cookie["httponly"] and cookie["samesite"] == "strict"
    assert cookie["path"] == "/operator"
    assert not cookie["max-age"] and not cookie["expires"]
    assert len(cookie.value) >= 40


def test_a_sign_in_gets_a_cookie_of_its_own(place: Desk) -> None:
    sari = place.sign_in("sari")
    first = sari.cookies["pesisir_desk"]
    old = dict(sari.cookies)
    sari.cookies.pop("pesisir_desk")
    try_in(sari, "sari", PASSWORD)
    assert sari.cookies["pesisir_desk"] != first
    planted = Person(place, "planted")
    planted.cookies = {**old, "pesisir_desk": "A" * 43}
    assert not is_in(planted)


def test_signing_out_ends_it(place: Desk) -> None:
    sari = place.sign_in("sari")
    kept = dict(sari.cookies)
    page = sari.send("/operator/sign-out", {"csrf": sari.csrf()})
    assert (page.status, page.headers["location"]) == (303, "/operator/sign-in")
    assert "pesisir_desk" not in sari.cookies
    sari.cookies = kept
    assert not is_in(sari)


def test_the_sign_in_form_of_another_browser_is_refused(place: Desk) -> None:
    other, sari = Person(place, "other"), Person(place, "sari")
    fields = dict(forms_of(other.get("/operator/sign-in"))[0].fields)
    fields |= {"name": "sari", "password": PASSWORD}
    for page in (sari.send("/operator/sign-in", fields), sari.send("/operator/sign-in", {})):
        assert page.status == 403
        assert "lama terbuka" in page.alert
    place.pass_time(3_601)
    assert other.send("/operator/sign-in", fields).status == 403


# --- it ends


def test_a_sign_in_ends_after_fifteen_idle_minutes(place: Desk) -> None:
    sari = place.sign_in("sari")
    place.pass_time(899)
    assert is_in(sari)
    place.pass_time(899)
    assert is_in(sari)
    place.pass_time(901)
    assert not is_in(sari)
    ended = "Waktu masuk Anda sudah habis."
    page = sari.get("/operator/sign-in")
    assert ended in page.text
    page = sari.submit(page, name="sari", password="salah sekali")
    assert ended not in page.text and page.alert
    assert ended not in Person(place, "sari").get("/operator/sign-in").text


def test_a_page_that_refreshes_itself_keeps_nobody_signed_in(place: Desk) -> None:
    sari = place.sign_in("sari")
    for _ in range(3):
        place.pass_time(400)
        sari.request("GET", "/operator/me", headers={"sec-fetch-dest": "empty"})
    assert not is_in(sari)


def test_a_sign_in_ends_after_twelve_hours(place: Desk) -> None:
    sari = place.sign_in("sari")
    for _ in range(54):
        place.pass_time(800)
        assert is_in(sari)
    place.pass_time(100)
    assert not is_in(sari)


def test_a_new_password_from_an_admin_ends_every_sign_in_and_pin(place: Desk) -> None:
    place.do(add_operator(place.node.operators, "eka", "operator", "TANJUNG"))
    eka = place.sign_in("eka")
    page = eka.get("/operator/me/pin")
    eka.submit(page, pin="280194", again="280194")
    password = place.do(place.node.operators.reset_password("eka"))
    assert not is_in(eka)
    page = eka.get("/operator/sign-in")
    assert "pin" not in dict(forms_of(page)[0].fields)
    assert try_in(eka, "eka", PASSWORD).alert
    page = try_in(eka, "eka", password)
    assert page.url.endswith("/operator/me/password")


def test_who_is_removed_is_out_at_once(place: Desk) -> None:
    place.do(add_operator(place.node.operators, "sementara", "operator", "TANJUNG"))
    person = place.sign_in("sementara")
    place.do(place.node.operators.remove("sementara"))
    assert not is_in(person)
    assert try_in(person, "sementara", PASSWORD).alert


# --- misses


def misses_kept(place: Desk) -> list[str]:
    """Whose misses are on disk."""
    sql = "SELECT who FROM sign_in_miss"
    return place.call(lambda: [row["who"] for row in place.node.store.database.all(sql)])


def test_the_sixth_miss_from_an_address_waits_and_others_do_not(place: Desk) -> None:
    guesser = Person(place, "guesser", source="127.0.0.7")
    for _ in range(5):
        assert try_in(guesser, "sari", "salah").status == 200
    page = try_in(guesser, "sari", PASSWORD)
    assert page.status == 429
    assert page.alert.strip() == "Terlalu sering salah. Tunggu 1 menit, lalu coba lagi."
    assert not is_in(guesser)
    assert is_in(place.sign_in("sari"))
    place.pass_time(61)
    try_in(guesser, "sari", PASSWORD)
    assert is_in(guesser)


def test_a_restart_shortens_no_wait(place: Desk) -> None:
    guesser = Person(place, "guesser", source="127.0.0.11")
    for _ in range(5):
        assert try_in(guesser, "sari", "salah").status == 200
    place.pass_time(20)
    place.restart()
    guesser.cookies.clear()
    page = try_in(guesser, "sari", PASSWORD)
    assert page.status == 429
    assert not is_in(guesser)
    place.pass_time(41)
    try_in(guesser, "sari", PASSWORD)
    assert is_in(guesser)
    guesser.cookies.clear()
    place.restart()
    assert try_in(guesser, "sari", "salah").status == 200, "a right password forgave what was kept"


def test_a_restart_forgets_no_guesses_at_one_name(place: Desk) -> None:
    async def guess() -> list[str]:
        refused = []
        for number in range(33):
            try:
                await place.node.operators.sign_in("dinas", "salah", f"10.7.0.{number}")
            except SignInRefused as error:
                refused.append(error.key)
        return refused

    assert place.do(guess())[31:] == ["sign_in_wait"] * 2
    place.restart()
    assert place.do(guess())[1:] == ["sign_in_wait"] * 32
    place.pass_time(1_900)
    try_in(Person(place, "other", source="127.0.0.12"), "dinas", "salah")
    kept = misses_kept(place)
    assert len(kept) == 2 and "source:127.0.0.12" in kept


def test_a_right_password_forgives_the_misses_before(place: Desk) -> None:
    sari = Person(place, "sari", source="127.0.0.8")
    for _ in range(3):
        for _ in range(4):
            assert try_in(sari, "sari", "salah").status == 200
        assert try_in(sari, "sari", PASSWORD).status != 429
        sari.cookies.clear()


def test_many_addresses_guessing_one_name_wait_but_a_known_browser_does_not(place: Desk) -> None:
    place.do(add_operator(place.node.operators, "target", "operator", "TANJUNG"))
    known = place.sign_in("target")
    known.submit(known.get("/operator/me/pin"), pin="280194", again="280194")

    async def guess() -> list[str]:
        refused = []
        for number in range(40):
            try:
                await place.node.operators.sign_in("target", "salah", f"10.9.0.{number}")
            except SignInRefused as error:
                refused.append(error.key)
        return refused

    answers = place.do(guess())
    assert answers[:30] == ["sign_in"] * 30
    # Over the limit one try in five seconds is let through, whoever asks.
    assert set(answers[31:]) == {"sign_in_wait"}
    stranger = Person(place, "stranger", source="127.0.0.9")
    assert try_in(stranger, "target", PASSWORD).status == 429
    known.cookies.pop("pesisir_desk")
    try_in(known, "target", PASSWORD)
    assert is_in(known)
    # Nobody else is held up, and nobody is for ever.
    assert is_in(place.sign_in("sari"))
    place.pass_time(5)
    try_in(stranger, "target", PASSWORD)
    assert is_in(stranger)


def test_refused_sign_ins_are_in_the_audit_without_what_was_typed(place: Desk) -> None:
    person = Person(place, "x", source="127.0.0.10")
    try_in(person, "sari", "rahasia-sekali")
    deed = place.last_deed()
    assert (deed["operator"], deed["action"], deed["site_id"]) == ("sari", "sign_in.refused", 1)
    before = len(place.deeds())
    try_in(person, "kata-sandi-saya-di-kolom-nama", "x")
    assert len(place.deeds()) == before
    assert "rahasia-sekali" not in str(place.deeds())


def test_passwords_are_hashed_one_at_a_time_and_never_on_the_event_loop(
    place: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    at_once = 0
    most = 0
    loop_thread = place.call(threading.get_ident)
    real = passwords.fits

    def watched(password: str, stored: str) -> bool:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        seen.append(threading.get_ident())
        try:
            return real(password, stored)
        finally:
            at_once -= 1

    monkeypatch.setattr(passwords, "fits", watched)

    async def rush() -> list[str]:
        async def one(number: int) -> str:
            try:
                await place.node.operators.sign_in("sari", "salah", f"10.8.0.{number}")
            except SignInRefused as error:
                return error.key
            return "in"

        return await asyncio.gather(*(one(number) for number in range(20)))

    answers = place.do(rush())
    assert most == 1
    assert loop_thread not in seen
    assert answers.count("busy") == 12
    kept = misses_kept(place)
    # Who was told to come back has missed nothing.
    assert len([who for who in kept if who.startswith("source:10.8.0.")]) == 8


# --- the first password must be changed


def test_a_given_password_must_be_changed_before_anything_else(place: Desk) -> None:
    add = add_operator(place.node.operators, "baru", "operator", "TANJUNG", must_change=True)
    place.do(add)
    baru = place.sign_in("baru")
    for path in ("/operator/", "/operator/me", "/operator/audit", "/operator/me/pin"):
        page = baru.request("GET", path)
        assert (page.status, page.headers["location"]) == (303, "/operator/me/password")
    page = baru.get("/operator/")
    assert "hanya untuk masuk pertama" in page.text
    page = baru.submit(page, old=PASSWORD, new=NEW, again=NEW)
    assert "Kata sandi sudah diganti." in page.text
    assert is_in(baru)
    assert place.last_deed()["action"] == "operator.own_password"
    again = Person(place, "baru")
    assert try_in(again, "baru", PASSWORD).alert
    try_in(again, "baru", NEW)
    assert is_in(again)


@pytest.mark.parametrize(
    ("old", "new", "again", "words"),
    [
        ("salah", NEW, NEW, "sekarang salah"),
        (PASSWORD, NEW, NEW + "x", "tidak sama"),
        (PASSWORD, "pendek", "pendek", "10 sampai 200"),
        (PASSWORD, "x" * 201, "x" * 201, "10 sampai 200"),
        (PASSWORD, PASSWORD, PASSWORD, "lain dari yang lama"),
        (PASSWORD, "Katasandi123", "Katasandi123", "mudah ditebak"),
        (PASSWORD, "aaaaaaaaaaaa", "aaaaaaaaaaaa", "mudah ditebak"),
        (PASSWORD, "dinasdinas1", "dinasdinas1", "mudah ditebak"),
    ],
)
def test_a_bad_new_password_is_explained_and_changes_nothing(
    place: Desk, old: str, new: str, again: str, words: str
) -> None:
    dinas = place.sign_in("dinas")
    page = dinas.submit(dinas.get("/operator/me/password"), old=old, new=new, again=again)
    assert words in page.alert
    assert is_in(dinas)
    assert is_in(place.sign_in("dinas"))


def test_ones_old_password_cannot_be_guessed_from_an_open_sign_in(place: Desk) -> None:
    place.do(add_operator(place.node.operators, "lupa", "operator", "TANJUNG"))
    lupa = place.sign_in("lupa")
    page = lupa.get("/operator/me/password")
    for _ in range(5):
        page = lupa.submit(page, old="salah", new=NEW, again=NEW)
    page = lupa.submit(page, old=PASSWORD, new=NEW, again=NEW)
    assert page.status == 429
    assert "Terlalu sering salah" in page.alert


def test_a_changed_password_ends_the_sign_ins_elsewhere(place: Desk) -> None:
    place.do(add_operator(place.node.operators, "dua", "operator", "TANJUNG"))
    here, there = place.sign_in("dua"), place.sign_in("dua")
    here.submit(here.get("/operator/me/password"), old=PASSWORD, new=NEW, again=NEW)
    assert is_in(here)
    assert not is_in(there)


# --- language


def test_the_desk_speaks_english_on_demand_and_remembers_it(place: Desk) -> None:
    sari = Person(place, "sari")
    page = sari.get("/operator/sign-in")
    assert 'lang="id"' in page.html
    page = sari.click(page, "English")
    assert "Sign in" in page.text
    page = sari.submit(page, name="sari", password=PASSWORD)
    page = sari.get("/operator/me")
    assert 'html lang="en"' in page.html
    page = sari.click(page, "Bahasa Indonesia")
    assert 'html lang="id"' in page.html
    assert 'html lang="id"' in sari.get("/operator/audit").html


# --- faults of ours


def test_a_fault_of_ours_is_a_page_with_a_number_and_tells_nothing(
    place: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sari = place.sign_in("sari")

    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such thing: 4829 1730 5516")

    monkeypatch.setattr(place.node.audit, "lines", fail)
    page = sari.get("/operator/audit")
    assert page.status == 500
    number = page.text.partition("Nomor bantuan: ")[2].split(" ")[0]
    assert number.startswith("K-") and number in caplog.text
    assert "RuntimeError" in caplog.text and "5516" not in caplog.text
    assert "Error" not in page.html and "5516" not in page.html
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert is_in(sari)


def test_many_passwords_at_once_count_each(place: Desk) -> None:
    async def rush() -> list[str]:
        async def one(password: str) -> str:
            try:
                found = await place.node.operators.sign_in("sari", password, "10.7.0.1")
            except SignInRefused as error:
                return error.key
            return found.name

        return list(await asyncio.gather(*(one("salah") for _ in range(7)), one(PASSWORD)))

    answers = place.do(rush())
    assert answers.count("sign_in") == 5
    assert set(answers[5:]) == {"sign_in_wait"}


def disk_full() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorname = "SQLITE_FULL"
    return error


def test_on_a_full_disk_people_come_in_and_are_told_what_was_not_saved(
    place: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def full(*_: object, **__: object) -> None:
        raise disk_full()

    store = place.node.operators._store
    monkeypatch.setattr(store, "record", full)
    sari = place.sign_in("sari")
    assert "sign_in operator=sari" in caplog.text
    # Wrong PINs cannot be counted, so no PIN is looked at; the password still does.
    known = Person(place, "sari")
    browser = place.do(place.node.operators.set_pin("sari", "248615", "248615", None))
    known.cookies["pesisir_desk_browser"] = browser
    monkeypatch.setattr(store, "browser_missed", full)
    page = known.submit(known.get("/operator/sign-in"), pin="248615")
    assert page.status == 503 and "Tidak bisa disimpan" not in page.text
    assert "penuh atau rusak" in page.text
    known.submit(page, password=PASSWORD)
    assert is_in(known)
    monkeypatch.setattr(place.node.vouchers, "give", full)
    page = sari.send("/operator/give", {"csrf": csrf_of(place, sari), "profile": "harian"})
    assert page.status == 503 and "Tidak bisa disimpan" in page.text

    # A mistake of our own is no full disk.
    async def broken(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("no such table: x")

    monkeypatch.setattr(place.node.vouchers, "give", broken)
    page = sari.send("/operator/give", {"csrf": csrf_of(place, sari), "profile": "harian"})
    assert page.status == 500
