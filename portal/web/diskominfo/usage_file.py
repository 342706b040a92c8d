"""Usage file: a part of the usage log as CSV (RFC 4180), written while it is read.

Two shapes of the same columns, one record a line, the header in the first: for programs (commas,
UTF-8), and for spreadsheets set to Indonesian, which expect semicolons and need the byte order mark
to know UTF-8. docs/hub.md says what each column means.
"""

import csv
import io
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from portal.domain.ledger import ClockQuality, Flag
from portal.hub.review import Asked, Few, Line, SiteView
from portal.reports import TERMINATE_CAUSES
from portal.web.text import Translator

AT_ONCE = 250
"""Records in memory at a time; between two such parts nodes and other pages have their turn."""
COLUMNS = (
    "site",
    "site_name",
    "day",
    "started",
    "ended",
    "duration_s",
    "counted_s",
    "input_octets",
    "output_octets",
    "gateway",
    "profile",
    "terminate_cause",
    "cause",
    "flags",
    "clock_quality",
    "hidden",
    "data_until",
    "node",
    "epoch",
    "seq",
)
"""`node`, `epoch` and `seq` name the record in the ledger, for an auditor."""
FEW = "fewer_than_5_cards"
"""In `hidden`: this line stands for the records of a site's day that are not shown."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DANGEROUS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Shape:
    """How a file is written."""

    delimiter: str
    mark: bytes


SHAPES = {"csv": Shape(",", b""), "excel": Shape(";", _BYTE_ORDER_MARK)}
"""By what the form calls them."""


def name_of(asked: Asked, until_at: int | None, zone: ZoneInfo) -> str:
    """What the file is called: of where, from when until when, and until when data had come."""
    until = "belum-ada"
    if until_at is not None:
        until = datetime.fromtimestamp(until_at, zone).strftime("%Y-%m-%dT%H.%M%z")
    return f"pesisir_{asked.site or 'semua'}_{asked.first}_{asked.last}_data-sampai-{until}.csv"


async def parts(
    lines: AsyncIterator[Line | Few], sites: Sequence[SiteView], t: Translator, shape: Shape
) -> AsyncIterator[bytes]:
    """The file in parts of AT_ONCE lines."""
    by_code = {site.code: site for site in sites}
    yield shape.mark + written([COLUMNS], shape.delimiter)
    waiting: list[Sequence[object]] = []
    async for line in lines:
        waiting.append(_fields(line, by_code.get(line.site), t))
        if len(waiting) == AT_ONCE:
            yield written(waiting, shape.delimiter)
            waiting = []
    yield written(waiting, shape.delimiter)


def cause_words(t: Translator, cause: int) -> str:
    """An Acct-Terminate-Cause (RFC 2866 5.10) in plain words; 0: the session goes on."""
    if cause == 0:
        return t("review.goes_on")
    if cause not in TERMINATE_CAUSES:
        return t("review.cause_other", number=cause)
    return t(f"review.cause_{cause}")


def _fields(line: Line | Few, site: SiteView | None, t: Translator) -> Sequence[object]:
    zone = site.zone if site is not None else ZoneInfo("UTC")
    until_at = None if site is None else site.data_until_at
    name = "" if site is None else site.name
    day, until = date.fromordinal(line.day), "" if until_at is None else _iso(until_at, zone)
    if isinstance(line, Few):
        found: dict[str, object] = dict.fromkeys(COLUMNS, "")
        said = {"site": line.site, "site_name": name, "day": day, "hidden": FEW}
        return tuple({**found, **said, "data_until": until}.values())
    return (
        line.site,
        name,
        day,
        _iso(line.started_at, zone),
        _iso(line.ended_at, zone),
        line.duration_s,
        line.counted_s,
        line.input_octets,
        line.output_octets,
        line.gateway,
        line.profile,
        TERMINATE_CAUSES.get(line.cause, "" if line.cause == 0 else str(line.cause)),
        cause_words(t, line.cause),
        _flags(line.flags),
        _quality(line.clock_quality),
        "",
        until,
        line.node_id,
        line.epoch,
        line.seq,
    )


def _iso(at: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at, zone).isoformat()


@lru_cache(maxsize=256)
def _flags(flags: int) -> str:
    """The names of flags; those of a newer node have none."""
    return " ".join(flag.name.lower() for flag in Flag if flags & flag and flag.name)


def _quality(number: int) -> str:
    """A clock quality by its name; one of a newer node by its number."""
    try:
        return ClockQuality(number).name.lower()
    except ValueError:
        return str(number)


def written(rows: Iterable[Sequence[object]], delimiter: str = ",") -> bytes:
    """Rows as RFC 4180 has them. A text that a spreadsheet would take for a formula gets an
    apostrophe before it, which spreadsheets do not show."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\r\n")
    for row in rows:
        writer.writerow([_safe(value) for value in row])
    return text.getvalue().encode()


def _safe(value: object) -> object:
    if isinstance(value, str) and value.lstrip(" \n\u00a0").startswith(_DANGEROUS):
        return f"'{value}"
    return value
