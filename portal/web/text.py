"""Text: the languages of the pages, and how each writes amounts, times and dates.

One catalogue per language, `templates/lang/<language>.po`, with a key such as `login.title` as
msgid; what only operators, or only an office, read stands beside it by topic, in
`operator/<language>.<topic>.po` and `diskominfo/<language>.<topic>.po`.
Indonesian is the language of reference: it has every key, and what another catalogue leaves out is
said in Indonesian. A further language is one more file; one that Babel's CLDR does not know (many
languages of the islands) writes numbers and months the Indonesian way.

Nothing is escaped here: the templates escape. Knows no request and no page.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from gettext import c2py
from pathlib import Path
from string import Formatter
from zoneinfo import ZoneInfo

from babel.core import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.messages.pofile import PoFileError, read_po
from babel.numbers import format_decimal

from portal.resources import data_dir

DEFAULT_LANGUAGE = "id"
TOPICS = ("operator", "diskominfo")
"""Folders of catalogues by topic, beside the residents'."""

_NO_BREAK_SPACE = "\u00a0"
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400


class CatalogueError(Exception):
    """A catalogue cannot be used; says which file, what was seen and what was expected."""


@dataclass(frozen=True, slots=True)
class _Catalogue:
    texts: dict[str, tuple[str, ...]]  # by key: one form, or several that a number picks from
    form_of: Callable[[int], int]


class Texts:
    """All catalogues of a directory, read once at start."""

    def __init__(self, directory: Path | None = None) -> None:
        """Read every `.po` file of `directory` (default: the installed `templates/lang`), and into
        it those of its folders in TOPICS, `<language>.<topic>.po`.

        Raises CatalogueError when one cannot be read, wants a value that the Indonesian text does
        not have, says a key another file has said, or when Indonesian is missing.
        """
        directory = directory or data_dir("templates") / "lang"
        catalogues = {path.stem: _read(path) for path in sorted(directory.glob("*.po"))}
        for folder in TOPICS:
            for path in sorted((directory / folder).glob("*.po")):
                _add(catalogues, path)
        reference = catalogues.get(DEFAULT_LANGUAGE)
        if reference is None:
            raise CatalogueError(
                f"{directory} has the languages {sorted(catalogues)};"
                f" expected {DEFAULT_LANGUAGE}.po among them"
            )
        for language, catalogue in catalogues.items():
            _check_values(directory / f"{language}.po", catalogue, reference)
        self._translators = {
            language: Translator(language, catalogue, reference)
            for language, catalogue in catalogues.items()
        }

    def languages(self) -> list[str]:
        """Return the languages there are, Indonesian first."""
        return sorted(self._translators, key=lambda language: (language != "id", language))

    def translator(self, language: str | None = None) -> "Translator":
        """Return the translator of a language; of Indonesian when there is no such language.

        What a phone asks for is a wish: it never is an error.
        """
        return self._translators.get(language or "", self._translators[DEFAULT_LANGUAGE])


@cache
def installed() -> Texts:
    """The catalogues as they were installed, read at the first call.

    They do not change while a program runs; whoever says one sentence need not read all again.
    Raises CatalogueError as `Texts` does.
    """
    return Texts()


class Translator:
    """Says things in one language.

    Called with a key it gives the text, with `{name}` filled in from the keywords; its methods
    write amounts and times. Instants are epoch seconds UTC, a zone is the site's.
    """

    def __init__(self, language: str, catalogue: _Catalogue, reference: _Catalogue) -> None:
        """Say things from `catalogue`, else from `reference`."""
        self.language = language
        self._catalogue = catalogue
        self._reference = reference
        try:
            self._locale = Locale.parse(language)
        except (UnknownLocaleError, ValueError):
            self._locale = Locale.parse(DEFAULT_LANGUAGE)

    def __call__(self, key: str, /, **values: object) -> str:
        """Return the text of `key`, nothing escaped.

        Where a text has plural forms the keyword `n` (an int) picks one. Raises KeyError for an
        unknown key, and for a text that wants a value which was not given.
        """
        catalogue = self._catalogue if key in self._catalogue.texts else self._reference
        forms = catalogue.texts[key]
        form = forms[0]
        n = values.get("n")
        if isinstance(n, int):
            form = forms[catalogue.form_of(n)] if len(forms) > 1 else form
            values["n"] = self.number(n)
        return form.format_map(values)

    # --- amounts -------------------------------------------------------------------------------

    def number(self, value: float, decimals: int = 0) -> str:
        """Write a number with this many decimals: `1.234,5`."""
        pattern = "#,##0." + "0" * decimals if decimals else "#,##0"
        return format_decimal(value, format=pattern, locale=self._locale)

    def octets(self, octets: int) -> str:
        """Write an amount of data that was used, to the nearest: `1,4 GB`, `350 MB`, `12 kB`.

        One decimal from 1 GB, none below, never 1.000 of a unit. What is more than nothing is
        shown as at least 1 kB.
        """
        return self._amount(max(octets, 501) if octets > 0 else 0, is_nearest=True)

    def octets_left(self, octets: int) -> str:
        """Write an amount of data that is left: like `octets`, but rounded down.

        Who reads that 1,0 GB is left can use 1,0 GB: a text never promises more than there is.
        """
        return self._amount(max(octets, 0), is_nearest=False)

    def quota(self, octets: int) -> str:
        """Write an allowance: like `octets`, but whole GB without a decimal, as on the cards."""
        if octets >= 10**9 and octets % 10**9 == 0:
            return self._with_unit(self.number(octets // 10**9), "gb")
        return self.octets(octets)

    def rate(self, kbps: int) -> str:
        """Write a rate: `512 kbps`, `2 Mbps`, `1,5 Mbps`."""
        if kbps < 1_000:
            return self._with_unit(self.number(kbps), "kbps")
        tenths = (kbps + 50) // 100
        return self._with_unit(self.number(tenths / 10, 1 if tenths % 10 else 0), "mbps")

    def _amount(self, octets: int, *, is_nearest: bool) -> str:
        for unit, scale in (("kb", 10**3), ("mb", 10**6)):
            count = (octets + (scale // 2 if is_nearest else 0)) // scale
            if count == 0:
                return self._with_unit("0", "mb")
            if count < 1_000:
                return self._with_unit(self.number(count), unit)
        tenths = (octets + (10**8 // 2 if is_nearest else 0)) // 10**8
        return self._with_unit(self.number(tenths / 10, 1), "gb")

    def _with_unit(self, number: str, unit: str) -> str:
        return f"{number}{_NO_BREAK_SPACE}{self(f'unit.{unit}')}"

    # --- durations -----------------------------------------------------------------------------

    def duration(self, seconds: int) -> str:
        """Write a duration that is used or left, rounded down: `3 jam 20 menit`, `45 detik`.

        Days with hours, hours with minutes, else minutes or seconds alone.
        """
        seconds = max(seconds, 0)
        days, rest_s = divmod(seconds, _DAY_S)
        hours, rest_s = divmod(rest_s, _HOUR_S)
        minutes, rest_s = divmod(rest_s, _MINUTE_S)
        if days:
            counts = [("days", days), ("hours", hours)]
        elif hours:
            counts = [("hours", hours), ("minutes", minutes)]
        elif minutes:
            counts = [("minutes", minutes)]
        else:
            return self("time.seconds", n=rest_s)
        return " ".join(self(f"time.{unit}", n=count) for unit, count in counts if count)

    def wait(self, seconds: int) -> str:
        """Write how long to wait: like `duration`, but rounded up, so that the wait is over."""
        step_s = 1 if seconds <= _MINUTE_S else _MINUTE_S if seconds <= _DAY_S else _HOUR_S
        return self.duration(-(-seconds // step_s) * step_s)

    # --- times and dates -----------------------------------------------------------------------

    def zone(self, at: int, zone: ZoneInfo) -> str:
        """Write a zone as people name it: WIB, WITA or WIT; `UTC+08` where it has no name."""
        name = datetime.fromtimestamp(at, zone).tzname() or zone.key
        return f"UTC{name}" if name[0] in "+-" else name

    def time(self, at: int, zone: ZoneInfo) -> str:
        """Write the time of day: `pukul 14.05 WITA`."""
        local = datetime.fromtimestamp(at, zone)
        clock = self._clock(local.hour, local.minute)
        return self("time.clock", time=clock, zone=self.zone(at, zone))

    def hours(self, hours: str, at: int, zone: ZoneInfo) -> str:
        """Write opening hours (as `domain.hours` normalises them): `pukul 08.00–15.00 WITA`."""
        if hours == "00:00-24:00":
            return self("time.all_day")
        ranges = []
        for part in hours.split(","):
            clocks = [time.split(":") for time in part.split("-")]
            ranges.append("\u2013".join(self._clock(int(h), int(m)) for h, m in clocks))
        return self("time.clock", time=", ".join(ranges), zone=self.zone(at, zone))

    def date(self, at: int, zone: ZoneInfo) -> str:
        """Write a date: `21 November 2026`."""
        return _long_date(_day(at, zone), self._locale)

    def short_date(self, at: int, zone: ZoneInfo) -> str:
        """Write a date in digits: `21/11/2026`."""
        return format_date(_day(at, zone), "dd/MM/y", locale=self._locale)

    def last_date(self, end_at: int, zone: ZoneInfo) -> str:
        """Write the last date before an end: what ends at midnight is good until the day before."""
        return self.date(end_at - 1, zone)

    def day(self, at: int, now_at: int, zone: ZoneInfo) -> str:
        """Write a day as seen from now: `hari ini`, `besok`, `kemarin`, else the date."""
        day, today = _day(at, zone), _day(now_at, zone)
        for key, days in (("time.today", 0), ("time.tomorrow", 1), ("time.yesterday", -1)):
            if day == today + timedelta(days=days):
                return self(key)
        return _long_date(day, self._locale)

    def moment(self, at: int, now_at: int, zone: ZoneInfo) -> str:
        """Write a day and a time as seen from now: `besok pukul 06.00 WITA`."""
        return self("time.moment", day=self.day(at, now_at, zone), time=self.time(at, zone))

    def since(self, at: int, now_at: int, zone: ZoneInfo) -> str:
        """Write when something began: of today the time alone, `pukul 10.20 WITA`."""
        is_today = _day(at, zone) == _day(now_at, zone)
        return self.time(at, zone) if is_today else self.moment(at, now_at, zone)

    def _clock(self, hour: int, minute: int) -> str:
        return self("time.hour_minute", hour=f"{hour:02d}", minute=f"{minute:02d}")


def _day(at: int, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(at, zone).date()


def _long_date(day: date, locale: Locale) -> str:
    return format_date(day, "d MMMM y", locale=locale)


def _read(path: Path) -> _Catalogue:
    """Read one catalogue. What is empty or marked fuzzy counts as not translated."""
    texts = {}
    try:
        with path.open("rb") as file:
            catalogue = read_po(file, abort_invalid=True)
        form_of = c2py(catalogue.plural_expr)
    except (PoFileError, UnicodeError, ValueError) as error:
        raise CatalogueError(f"{path} is not a catalogue: {error}; expected a .po file") from error
    if not all(0 <= form_of(n) < catalogue.num_plurals for n in range(1_000)):
        raise CatalogueError(
            f"{path} has the plural rule {catalogue.plural_expr!r};"
            f" expected one that gives 0 to {catalogue.num_plurals - 1}"
        )
    for message in catalogue:
        key = message.id if isinstance(message.id, str) else message.id[0]
        string = message.string or ""
        forms = (string,) if isinstance(string, str) else tuple(string)
        if key and all(forms) and not message.fuzzy:
            texts[key] = forms
    return _Catalogue(texts, form_of)


def _add(catalogues: dict[str, _Catalogue], path: Path) -> None:
    """Add the texts of `path`, a `<language>.<topic>.po`, to its language's."""
    language = path.stem.partition(".")[0]
    if language not in catalogues:
        raise CatalogueError(f"{path} is of no language here; expected {sorted(catalogues)}")
    found, texts = _read(path), catalogues[language].texts
    twice = sorted(found.texts.keys() & texts.keys())
    if twice:
        raise CatalogueError(f"{path} says {twice}, which another file says; expected new keys")
    texts.update(found.texts)


def _check_values(path: Path, catalogue: _Catalogue, reference: _Catalogue) -> None:
    """Raise CatalogueError for a text that wants a value which the Indonesian text does not."""
    for key in catalogue.texts.keys() & reference.texts.keys():
        try:
            wanted, known = _values(catalogue.texts[key]), _values(reference.texts[key])
        except ValueError as error:
            raise CatalogueError(
                f"{path}: {key}: {error}; expected names in braces, and a lone brace doubled"
            ) from error
        wrong = {name for name in wanted if name not in known or not name.isidentifier()}
        if wrong:
            raise CatalogueError(
                f"{path}: {key} wants the values {sorted(wrong)}; expected only {sorted(known)}"
            )


def _values(forms: tuple[str, ...]) -> set[str]:
    """Return the names in braces."""
    return {name for form in forms for _, name, _, _ in Formatter().parse(form) if name is not None}
