import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.resources import data_dir
from portal.web.text import CatalogueError, Texts, Translator

TEXTS = Texts()
ID, EN = TEXTS.translator("id"), TEXTS.translator("en")
JAKARTA, MAKASSAR, JAYAPURA = (
    ZoneInfo(f"Asia/{city}") for city in ("Jakarta", "Makassar", "Jayapura")
)
NOW_AT = int(datetime(2026, 11, 21, 6, 5, tzinfo=UTC).timestamp())  # 14.05 in Makassar
NBSP = "\u00a0"

HEADER = """\
msgid ""
msgstr ""
"Content-Type: text/plain; charset=utf-8\\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\\n"

"""


def write(directory: Path, language: str, *entries: str) -> None:
    (directory / f"{language}.po").write_text(HEADER + "\n\n".join(entries) + "\n", "utf-8")


def entry(key: str, text: str) -> str:
    return f'msgid "{key}"\nmsgstr "{text}"'


# --- amounts


def test_numbers() -> None:
    assert ID.number(1234.5, 1) == "1.234,5"
    assert EN.number(1234.5, 1) == "1,234.5"
    assert ID.number(12_500) == "12.500"


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (0, "0 MB"),
        (1, "1 kB"),
        (1_499, "1 kB"),
        (1_500, "2 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (350_000_000, "350 MB"),
        (999_499_999, "999 MB"),
        (999_500_000, "1,0 GB"),
        (999_999_999, "1,0 GB"),
        (1_000_000_000, "1,0 GB"),
        (1_400_000_000, "1,4 GB"),
        (1_449_999_999, "1,4 GB"),
        (1_450_000_000, "1,5 GB"),
        (1_234_500_000_000, "1.234,5 GB"),
    ],
)
def test_used_data_is_written_to_the_nearest(octets: int, expected: str) -> None:
    assert ID.octets(octets) == expected.replace(" ", NBSP)


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (-1, "0 MB"),
        (0, "0 MB"),
        (999, "0 MB"),
        (1_999, "1 kB"),
        (999_999, "999 kB"),
        (999_999_999, "999 MB"),
        (1_000_000_000, "1,0 GB"),
        (1_999_999_999, "1,9 GB"),
    ],
)
def test_data_left_is_rounded_down(octets: int, expected: str) -> None:
    assert ID.octets_left(octets) == expected.replace(" ", NBSP)


def meant(written: str) -> int:
    number, unit = written.split(NBSP)
    scale = {"kB": 10**3, "MB": 10**6, "GB": 10**9}[unit]
    return round(float(number.replace(".", "").replace(",", ".")) * scale)


@given(st.integers(0, 10**15))
def test_no_text_promises_more_data_than_there_is(octets: int) -> None:
    assert meant(ID.octets_left(octets)) <= octets


@given(st.integers(0, 10**13))
def test_amounts_are_never_a_thousand_of_a_unit_that_has_a_larger_one(octets: int) -> None:
    for written in (ID.octets(octets), ID.octets_left(octets)):
        assert re.fullmatch(rf"[0-9]{{1,3}}{NBSP}[kM]B|[0-9.]+,[0-9]{NBSP}GB", written)


@given(st.integers(1, 10**13))
def test_used_data_is_within_half_of_the_last_digit(octets: int) -> None:
    step = 10**3 if octets < 999_500 else 10**6 if octets < 999_500_000 else 10**8
    assert abs(meant(ID.octets(octets)) - octets) <= step / 2 or octets < 500


@pytest.mark.parametrize(
    ("octets", "expected"),
    [(2 * 10**9, "2 GB"), (1_500_000_000, "1,5 GB"), (500_000_000, "500 MB"), (64_000, "64 kB")],
)
def test_a_quota_has_no_empty_decimal(octets: int, expected: str) -> None:
    assert ID.quota(octets) == expected.replace(" ", NBSP)


@pytest.mark.parametrize(
    ("kbps", "expected"), [(512, "512 kbps"), (2_000, "2 Mbps"), (1_500, "1,5 Mbps")]
)
def test_rates(kbps: int, expected: str) -> None:
    assert ID.rate(kbps) == expected.replace(" ", NBSP)


# --- durations


@pytest.mark.parametrize(
    ("seconds", "indonesian", "english"),
    [
        (-5, "0 detik", "0 seconds"),
        (1, "1 detik", "1 second"),
        (59, "59 detik", "59 seconds"),
        (60, "1 menit", "1 minute"),
        (119, "1 menit", "1 minute"),
        (3_600, "1 jam", "1 hour"),
        (12_000, "3 jam 20 menit", "3 hours 20 minutes"),
        (12_059, "3 jam 20 menit", "3 hours 20 minutes"),
        (86_400, "1 hari", "1 day"),
        (86_400 + 3 * 3_600 + 59 * 60, "1 hari 3 jam", "1 day 3 hours"),
        (1_234 * 86_400, "1.234 hari", "1,234 days"),
    ],
)
def test_durations_are_rounded_down(seconds: int, indonesian: str, english: str) -> None:
    assert ID.duration(seconds) == indonesian
    assert EN.duration(seconds) == english


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 detik"),
        (5, "5 detik"),
        (60, "1 menit"),
        (61, "2 menit"),
        (3_541, "1 jam"),
        (3_601, "1 jam 1 menit"),
        (86_401, "1 hari 1 jam"),
    ],
)
def test_waits_are_rounded_up(seconds: int, expected: str) -> None:
    assert ID.wait(seconds) == expected


# --- times and dates


def test_time_of_day_in_each_zone() -> None:
    assert ID.time(NOW_AT, MAKASSAR) == "pukul 14.05 WITA"
    assert ID.time(NOW_AT, JAKARTA) == "pukul 13.05 WIB"
    assert ID.time(NOW_AT, JAYAPURA) == "pukul 15.05 WIT"
    assert EN.time(NOW_AT, MAKASSAR) == "14:05 WITA"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("Asia/Jakarta", "WIB"),
        ("Asia/Pontianak", "WIB"),
        ("Asia/Makassar", "WITA"),
        ("Asia/Jayapura", "WIT"),
        ("Europe/Berlin", "CET"),
        ("America/Sao_Paulo", "UTC-03"),
    ],
)
def test_zones_are_named_as_people_name_them(key: str, name: str) -> None:
    assert ID.zone(NOW_AT, ZoneInfo(key)) == name


def test_dates() -> None:
    assert ID.date(NOW_AT, MAKASSAR) == "21 November 2026"
    assert EN.date(NOW_AT, MAKASSAR) == "21 November 2026"
    assert ID.short_date(NOW_AT, MAKASSAR) == "21/11/2026"
    in_august_at = int(datetime(2026, 8, 1, tzinfo=MAKASSAR).timestamp())
    assert ID.date(in_august_at, MAKASSAR) == "1 Agustus 2026"
    assert EN.date(in_august_at, MAKASSAR) == "1 August 2026"
    assert ID.short_date(in_august_at, MAKASSAR) == "01/08/2026"


def test_the_date_is_the_one_of_the_site() -> None:
    at = int(datetime(2026, 11, 21, 15, 30, tzinfo=UTC).timestamp())
    assert ID.date(at, MAKASSAR) == "21 November 2026"
    assert ID.date(at, JAYAPURA) == "22 November 2026"


def test_what_ends_at_midnight_is_good_until_the_day_before() -> None:
    end_at = int(datetime(2026, 11, 29, tzinfo=MAKASSAR).timestamp())
    assert ID.last_date(end_at, MAKASSAR) == "28 November 2026"
    assert ID.last_date(end_at + 1, MAKASSAR) == "29 November 2026"


@pytest.mark.parametrize(
    ("days", "indonesian", "english"),
    [
        (0, "hari ini", "today"),
        (1, "besok", "tomorrow"),
        (-1, "kemarin", "yesterday"),
        (2, "23 November 2026", "23 November 2026"),
    ],
)
def test_days_as_seen_from_now(days: int, indonesian: str, english: str) -> None:
    at = NOW_AT + days * 86_400
    assert ID.day(at, NOW_AT, MAKASSAR) == indonesian
    assert EN.day(at, NOW_AT, MAKASSAR) == english
    assert ID.moment(at, NOW_AT, MAKASSAR) == f"{indonesian} pukul 14.05 WITA"
    assert EN.moment(at, NOW_AT, MAKASSAR) == f"{english} at 14:05 WITA"


def test_tomorrow_begins_at_midnight_of_the_site() -> None:
    midnight_at = int(datetime(2026, 11, 22, tzinfo=MAKASSAR).timestamp())
    assert ID.day(midnight_at - 1, NOW_AT, MAKASSAR) == "hari ini"
    assert ID.moment(midnight_at, NOW_AT, MAKASSAR) == "besok pukul 00.00 WITA"


def test_since_says_the_day_only_when_it_is_not_today() -> None:
    assert ID.since(NOW_AT - 3_600, NOW_AT, MAKASSAR) == "pukul 13.05 WITA"
    assert ID.since(NOW_AT - 86_400, NOW_AT, MAKASSAR) == "kemarin pukul 14.05 WITA"


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        ("08:00-15:00", "pukul 08.00–15.00 WITA"),
        ("08:00-12:00,13:00-15:00", "pukul 08.00–12.00, 13.00–15.00 WITA"),
        ("18:00-24:00", "pukul 18.00–24.00 WITA"),
        ("00:00-24:00", "sepanjang hari"),
    ],
)
def test_opening_hours(hours: str, expected: str) -> None:
    assert ID.hours(hours, NOW_AT, MAKASSAR) == expected


# --- catalogues


def test_indonesian_comes_first_and_is_said_where_a_language_is_unknown() -> None:
    assert TEXTS.languages()[0] == "id"
    assert "en" in TEXTS.languages()
    assert TEXTS.translator("en").language == "en"
    for wish in (None, "", "xx", "../id", "ID"):
        assert TEXTS.translator(wish).language == "id"


def test_an_unknown_key_is_an_error() -> None:
    for translator in (ID, EN):
        with pytest.raises(KeyError):
            translator("login.no_such_text")


def test_a_value_that_was_not_given_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "id", entry("greeting", "Halo {name}"))
    translator = Texts(tmp_path).translator("id")
    assert translator("greeting", name="<b>Siti</b>") == "Halo <b>Siti</b>"
    with pytest.raises(KeyError):
        translator("greeting")


def test_values_are_never_read_as_texts(tmp_path: Path) -> None:
    write(tmp_path, "id", entry("greeting", "Halo {name}"))
    assert Texts(tmp_path).translator()("greeting", name="{secret}") == "Halo {secret}"


def test_a_dropped_in_language_says_the_rest_in_indonesian(tmp_path: Path) -> None:
    write(tmp_path, "id", entry("yes", "Ya"), entry("no", "Tidak"), entry("wait", "Tunggu"))
    fuzzy = "#, fuzzy\n" + entry("wait", "Sabaraki")
    write(tmp_path, "mad", entry("yes", "Enggi"), entry("no", ""), fuzzy)
    texts = Texts(tmp_path)
    assert texts.languages() == ["id", "mad"]
    translator = texts.translator("mad")
    assert [translator(key) for key in ("yes", "no", "wait")] == ["Enggi", "Tidak", "Tunggu"]
    assert translator.number(1234.5, 1) == "1.234,5"


def test_a_number_picks_its_form_in_each_language(tmp_path: Path) -> None:
    forms = 'msgid "phones"\nmsgid_plural "phones"\nmsgstr[0] "{n} phone"\nmsgstr[1] "{n} phones"'
    write(tmp_path, "id", entry("phones", "{n} HP"))
    write(tmp_path, "en", forms)
    texts = Texts(tmp_path)
    indonesian, english = texts.translator("id"), texts.translator("en")
    assert [english("phones", n=n) for n in (0, 1, 2)] == ["0 phones", "1 phone", "2 phones"]
    assert indonesian("phones", n=1_000) == "1.000 HP"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Hello {who}", r"en.po: greeting wants the values \['who'\]; expected only \['name'\]"),
        ("Hello {name.__class__}", r"greeting wants the values \['name.__class__'\]"),
        ("Hello {}", r"greeting wants the values \[''\]"),
        ("Hello {name", "en.po: greeting: expected '}'.*; expected names in braces"),
    ],
)
def test_a_translation_that_wants_other_values_stops_the_start(
    tmp_path: Path, text: str, message: str
) -> None:
    write(tmp_path, "id", entry("greeting", "Halo {name}"))
    write(tmp_path, "en", entry("greeting", text))
    with pytest.raises(CatalogueError, match=message):
        Texts(tmp_path)


def test_indonesian_itself_may_only_name_its_values(tmp_path: Path) -> None:
    write(tmp_path, "id", entry("greeting", "Halo {0}"))
    with pytest.raises(CatalogueError, match=r"id.po: greeting wants the values \['0'\]"):
        Texts(tmp_path)


def test_a_missing_form_counts_as_not_translated(tmp_path: Path) -> None:
    write(tmp_path, "id", entry("phones", "{n} HP"))
    write(tmp_path, "en", 'msgid "phones"\nmsgid_plural "phones"\nmsgstr[0] "{n} phone"')
    assert Texts(tmp_path).translator("en")("phones", n=2) == "2 HP"


def test_a_form_too_many_stops_the_start(tmp_path: Path) -> None:
    forms = "".join(f'\nmsgstr[{n}] "{{n}} x"' for n in range(3))
    write(tmp_path, "id", 'msgid "a"\nmsgid_plural "a"' + forms)
    with pytest.raises(CatalogueError, match=r"id.po is not a catalogue: .* more translations"):
        Texts(tmp_path)


def test_a_rule_for_more_forms_than_there_are_stops_the_start(tmp_path: Path) -> None:
    write(tmp_path, "id", entry("yes", "Ya"))
    path = tmp_path / "id.po"
    path.write_text(path.read_text("utf-8").replace("plural=(n != 1)", "plural=n"), "utf-8")
    with pytest.raises(CatalogueError, match=r"id.po has the plural rule 'n'; expected .* 0 to 1"):
        Texts(tmp_path)


@pytest.mark.parametrize("content", [b"not a catalogue", b'msgid "a"\nmsgstr "\xff\xfe"\n'])
def test_a_file_that_is_no_catalogue_stops_the_start(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, "id", entry("yes", "Ya"))
    (tmp_path / "xx.po").write_bytes(content)
    with pytest.raises(CatalogueError, match=r"xx\.po is not a catalogue"):
        Texts(tmp_path)


def test_indonesian_must_be_there(tmp_path: Path) -> None:
    write(tmp_path, "en", entry("yes", "Yes"))
    with pytest.raises(CatalogueError, match=r"languages \['en'\]; expected id.po"):
        Texts(tmp_path)


# --- the catalogues we ship


def keys(language: str) -> Counter[str]:
    text = (data_dir("templates") / "lang" / f"{language}.po").read_text("utf-8")
    return Counter(re.findall(r'^msgid "(.+)"$', text, re.MULTILINE))


@pytest.mark.parametrize("language", ["id", "en"])
def test_no_key_is_written_twice(language: str) -> None:
    assert [key for key, count in keys(language).items() if count > 1] == []


def test_english_says_everything_indonesian_says_and_no_more() -> None:
    assert set(keys("id")) == set(keys("en"))
    assert len(keys("id")) > 10


@pytest.mark.parametrize("translator", [ID, EN])
def test_no_shipped_text_is_empty(translator: Translator) -> None:
    empty = [key for key in keys("id") if key not in translator._catalogue.texts]
    assert empty == []
