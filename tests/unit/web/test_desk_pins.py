"""PINs at the operator's desk: good in the browser they were set in, and nowhere else."""

import asyncio
from collections.abc import Iterator

import pytest

from portal import passwords
from portal.errors import DeskError
from portal.operators import PIN_MISSES, SignInRefused
from portal.store.audit import Deed
from tests.unit.web.desk import PASSWORD, Desk, Person, desk, forms_of
from tests.unit.web.signing_in import is_in, try_in


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("desk")) as found:
        yield found


@pytest.fixture(autouse=True)
def long_after(place: Desk) -> None:
    """Misses of the test before are forgotten."""
    place.pass_time(3_600)


def test_a_pin_is_enough_in_a_browser_it_was_set_in_and_nowhere_else(place: Desk) -> None:
    sari = place.sign_in("sari")
    page = sari.submit(sari.get("/operator/me/pin"), pin="280194", again="280194")
    assert "PIN sudah dipasang" in page.text
    place.pass_time(1_000)
    page = sari.get("/operator/me")
    assert "Anda sari? Ketik PIN Anda." in page.text
    page = sari.submit(page, pin="280194")
    assert page.url.endswith("/operator/me")
    assert place.last_deed()["details"] == "PIN"
    other = Person(place, "other")
    page = other.get("/operator/sign-in")
    assert "PIN" not in page.text
    fields = dict(forms_of(page)[0].fields) | {"pin": "280194"}
    assert other.send("/operator/sign-in", fields).status == 200
    assert not is_in(other)


@pytest.mark.parametrize(
    ("pin", "again", "words"),
    [
        ("12345", "12345", "harus 6 angka"),
        ("abcdef", "abcdef", "harus 6 angka"),
        ("280194", "280195", "tidak sama"),
        ("111111", "111111", "mudah ditebak"),
        ("123456", "123456", "mudah ditebak"),
        ("987654", "987654", "mudah ditebak"),
        ("121212", "121212", "mudah ditebak"),
    ],
)
def test_a_bad_pin_is_explained(place: Desk, pin: str, again: str, words: str) -> None:
    sari = place.sign_in("sari")
    page = sari.submit(sari.get("/operator/me/pin"), pin=pin, again=again)
    assert words in page.alert


def test_after_five_wrong_pins_the_password_is_needed_there(place: Desk) -> None:
    sari = place.sign_in("sari")
    sari.submit(sari.get("/operator/me/pin"), pin="280194", again="280194")
    sari.cookies.pop("pesisir_desk")
    for _ in range(PIN_MISSES - 1):
        page = sari.submit(sari.get("/operator/sign-in"), pin="000001")
        assert "PIN salah" in page.alert
    page = sari.submit(sari.get("/operator/sign-in"), pin="000001")
    assert "Masuk dengan kata sandi" in page.alert
    assert "Kata sandi" in page.text
    fields = dict(forms_of(page)[0].fields) | {"pin": "280194"}
    sari.send("/operator/sign-in", fields)
    assert not is_in(sari)
    try_in(sari, "sari", PASSWORD)
    assert is_in(sari)


def test_many_pins_at_once_count_each(place: Desk) -> None:
    sari = place.sign_in("sari")
    sari.submit(sari.get("/operator/me/pin"), pin="280194", again="280194")
    browser = sari.cookies["pesisir_desk_browser"]

    async def rush() -> list[str]:
        async def one(pin: str) -> str:
            try:
                return (await place.node.operators.sign_in_with_pin(pin, browser)).name
            except SignInRefused as error:
                return error.key

        return await asyncio.gather(*(one(f"{900_000 + n}") for n in range(8)), one("280194"))

    answers = place.do(rush())
    assert "sari" not in answers
    assert answers.count("pin_over") >= 4


def test_a_right_pin_forgives_and_the_pin_can_be_removed(place: Desk) -> None:
    sari = place.sign_in("sari")
    sari.submit(sari.get("/operator/me/pin"), pin="280194", again="280194")
    for _ in range(2):
        for _ in range(PIN_MISSES - 1):
            sari.cookies.pop("pesisir_desk", None)
            sari.submit(sari.get("/operator/sign-in"), pin="000001")
        sari.submit(sari.get("/operator/sign-in"), pin="280194")
        assert is_in(sari)
    page = sari.submit(sari.get("/operator/me"), action="/operator/me/pin/forget")
    assert "sudah dihapus" in page.text
    assert "pesisir_desk_browser" not in sari.cookies


def test_a_browser_unused_for_three_months_needs_the_password(place: Desk) -> None:
    sari = place.sign_in("sari")
    sari.submit(sari.get("/operator/me/pin"), pin="280194", again="280194")
    place.pass_time(91 * 86_400)
    assert "PIN" not in sari.get("/operator/sign-in").text
    place.do(place.node.operators.forget_old_browsers())
    rows = place.call(
        lambda: place.node.store.database.all("SELECT operator FROM operator_browser")
    )
    assert rows == []


def test_a_stolen_database_gives_no_pin_away_without_the_browser(place: Desk) -> None:
    sari = place.sign_in("sari")
    sari.submit(sari.get("/operator/me/pin"), pin="280194", again="280194")
    rows = place.call(lambda: place.node.store.database.all("SELECT * FROM operator_browser"))
    assert not passwords.fits("280194", rows[0]["pin_hash"])
    assert sari.cookies["pesisir_desk_browser"] not in str([tuple(row) for row in rows])


def test_a_pin_that_is_being_looked_at_ends_with_the_password(
    place: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    operators = place.node.operators
    browser = place.do(operators.set_pin("sari", "248615", "248615", None))
    before = operators.operator("sari")
    fits, hashed = operators._fits, operators._hashed

    async def reset_meanwhile(text: str, stored: str) -> bool:
        is_right = await fits(text, stored)
        await operators.reset_password("sari", "kepala")
        return is_right

    async def hashed_and_reset(text: str) -> str:
        found = await hashed(text)
        if "135792" in text:
            await operators.reset_password("sari", "kepala")
        return found

    try:
        monkeypatch.setattr(operators, "_fits", reset_meanwhile)
        with pytest.raises(SignInRefused) as refused:
            place.do(operators.sign_in_with_pin("248615", browser))
        assert refused.value.key == "pin_over"
        # Nor does a browser of the sign-in that ended get a PIN after all.
        monkeypatch.setattr(operators, "_hashed", hashed_and_reset)
        with pytest.raises(DeskError):
            place.do(operators.set_pin("sari", "135792", "135792", None))
        rows = place.call(
            lambda: place.node.store.database.all(
                "SELECT token_hash FROM operator_browser WHERE operator = 'sari'"
            )
        )
        assert rows == []
    finally:
        monkeypatch.undo()
        place.do(
            operators._store.set_password(
                *("sari", before.password_hash, False, None, place.node.now()),
                Deed("test", "operator.password", before.site_id, "sari"),
            )
        )
        operators._by_name["sari"] = before
