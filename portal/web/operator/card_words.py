"""Card words: what the desk says about a card, its sessions and what was done to it.

Turns what use cases return into short texts that templates only have to place.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from portal.audit import COMMAND_LINE
from portal.cards.endings import UNDO_REASON
from portal.domain.profile import (
    WINDOWS,
    Profile,
    data_quota,
    parse_duration_s,
    parse_octets,
    time_quota,
)
from portal.domain.voucher import State, mask
from portal.web.sentences import Fact, end_key
from portal.web.text import Translator

_SIGNS = {
    State.UNUSED: "ok",
    State.ACTIVE: "ok",
    State.USED_UP: "low",
    State.EXPIRED: "low",
    State.REVOKED: "bad",
    State.REPLACED: "bad",
}
_REPLACES = "replaces "
"""How the note of a batch begins that the node made itself (`vouchers.replace`)."""
LIVING = frozenset((State.UNUSED, State.ACTIVE, State.USED_UP, State.EXPIRED))
"""States in which something can still be done with a card."""


@dataclass(frozen=True, slots=True)
class CardLine:
    """A card in a list."""

    serial: str
    code: str
    """Masked."""
    state: str
    sign: str
    """The shape beside the state: ok, low or bad."""
    detail: str
    other: str | None
    """The card that replaced it."""


@dataclass(frozen=True, slots=True)
class SessionLine:
    """One session of a card."""

    id: int
    since: str
    data: str
    time: str
    gateway: str
    phone: str | None
    """The end of the phone's address, enough to tell two phones apart; None when it is unknown."""
    end: str
    is_open: bool
    is_blocked: bool
    """The phone may not come in at this site."""


@dataclass(frozen=True, slots=True)
class DeedLine:
    """One thing done to a card."""

    when: str
    who: str
    what: str
    reason: str
    details: str


def gives(t: Translator, profile: Profile) -> str:
    """What a card gives, in one sentence: `2 GB dan 7 hari sejak pertama dipakai.`"""
    parts = []
    for window in reversed(WINDOWS):
        octets, seconds = data_quota(profile, window), time_quota(profile, window)
        if octets is not None:
            parts.append(t(f"cards.gives_{window}", amount=t.quota(octets)))
        if seconds is not None:
            parts.append(t(f"cards.gives_{window}", amount=t.duration(seconds)))
    if not parts:
        parts.append(t("cards.gives_all"))
    if profile.valid_s is not None:
        parts.append(t("cards.gives_valid", time=t.duration(profile.valid_s)))
    *first, last = parts
    text = t("cards.and", first=", ".join(first), last=last) if first else last
    return text[0].upper() + text[1:] + "."


def state(t: Translator, of: State | str) -> str:
    """A state in words."""
    return t(f"cards.state_{State(of).value}")


def sign(of: State | str) -> str:
    """The shape beside a state: ok, low or bad."""
    return _SIGNS[State(of)]


def masked(last4: str) -> str:
    """A code as pages show it, its four last digits in no need of a line break."""
    return mask(last4).replace(" ", "\u00a0")


def listed(t: Translator, shown: Mapping[str, Any], *, now: int, zone: ZoneInfo) -> CardLine:
    """A card (as `vouchers.show` or `vouchers.find_cards` gives it) as a line of a list."""
    of = State(shown["state"])
    detail, other = "", None
    if of is State.UNUSED and shown.get("given_at") is not None:
        detail = t("cards.given_when", when=t.moment(shown["given_at"], now, zone))
    elif of is State.ACTIVE and shown["octets_left"] is not None:
        detail = t("cards.left", left=t.octets_left(shown["octets_left"]))
    elif of is State.REPLACED and shown.get("replaced_by"):
        detail, other = t("cards.by"), shown["replaced_by"]
    return CardLine(shown["serial"], masked(shown["last4"]), state(t, of), sign(of), detail, other)


def dates(t: Translator, shown: Mapping[str, Any], *, now: int, zone: ZoneInfo) -> list[Fact]:
    """Since when and until when a card is good."""
    found = []
    if shown["first_used_at"] is not None:
        found.append(Fact(t("cards.first_used"), t.moment(shown["first_used_at"], now, zone)))
        if shown["expires_at"] is not None:
            found.append(Fact(t("cards.valid_until"), t.moment(shown["expires_at"], now, zone)))
    elif shown["use_before_at"] is not None:
        found.append(Fact(t("cards.use_until"), t.last_date(shown["use_before_at"], zone)))
    if shown["first_used_at"] is not None:
        found.append(Fact(t("cards.used"), t.octets(shown["octets_used"])))
    return found


def origin(t: Translator, shown: Mapping[str, Any], *, now: int, zone: ZoneInfo) -> list[Fact]:
    """Who made and who gave a card, and when."""
    found = [
        Fact(
            t("cards.issued"),
            _who_when(t, shown["issued_by"], shown["issued_at"], now=now, zone=zone),
        )
    ]
    if shown["given_at"] is not None:
        who = _who_when(t, shown["given_by"], shown["given_at"], now=now, zone=zone)
        found.append(Fact(t("cards.given"), who))
    if shown["note"] and not shown["note"].startswith(_REPLACES):
        found.append(Fact(t("cards.note"), shown["note"]))
    return found


def person(t: Translator, name: str | None) -> str:
    """Who did something: an operator's name, or the command line in words."""
    return t("cards.command_line") if not name or name == COMMAND_LINE else name


def _who_when(t: Translator, name: str | None, at: int, *, now: int, zone: ZoneInfo) -> str:
    return t("cards.who_when", who=person(t, name), when=t.moment(at, now, zone))


def sessions(
    t: Translator,
    rows: Sequence[Mapping[str, Any]],
    *,
    now: int,
    zone: ZoneInfo,
    with_phones: bool,
    is_blocked: Callable[[str], bool],
) -> list[SessionLine]:
    """Sessions (as `history.listed` gives them); `with_phones` tells the phones apart.

    `is_blocked`: whether the phone with this MAC may not come in.
    """
    lines = []
    for row in rows:
        mac = row["calling_station_id"]
        ended_at = row["ended_at"]
        end = t("cards.open")
        if ended_at is not None:
            why = t(f"end.{end_key(row['end_cause'] or '')}")
            end = t("cards.ended", when=t.since(ended_at, now, zone), why=why)
        lines.append(
            SessionLine(
                id=row["id"],
                since=t.moment(row["started_at"], now, zone),
                data=t.octets(row["input_octets"] + row["output_octets"]),
                time=t.duration(row["session_time_s"]),
                gateway=row["gateway"],
                phone=phone(mac) if mac and with_phones else None,
                end=end,
                is_open=ended_at is None,
                is_blocked=bool(mac) and is_blocked(mac),
            )
        )
    return lines


def phone(mac: str) -> str:
    """The end of a MAC: enough to tell the phones of a village apart, and no more of it."""
    return f"\u2026{mac[-4:-2]}:{mac[-2:]}"


def deeds(
    t: Translator, lines: Sequence[Mapping[str, Any]], *, now: int, zone: ZoneInfo
) -> list[DeedLine]:
    """What was done to a card (as `vouchers.history` gives it), in words."""
    return [
        DeedLine(
            when=t.moment(line["at"], now, zone),
            who=person(t, line["operator"]),
            what=t(f"audit.{line['action']}"),
            reason=line["reason"],
            details=details(t, line["action"], line["details"]),
        )
        for line in lines
    ]


# --- what the node wrote itself, in English ---------------------------------------------------


def note(t: Translator, text: str) -> str:
    """The note of a batch; one that the node wrote when it replaced cards is said in words."""
    if not text.startswith(_REPLACES):
        return text
    first, _, last = text.removeprefix(_REPLACES).partition(" to ")
    if not last:
        return t("cards.note_replaces", serial=first)
    return t("cards.note_replaces_range", first=first, last=last)


def end_reason(t: Translator, text: str | None) -> str | None:
    """Why a card ended; one that was taken back has no reason of a person."""
    return t("cards.undone") if text == UNDO_REASON else text


_AMOUNTS = re.compile(r"\+([0-9.]+[kMGT]?B|[0-9smhd]+)(?:, |$)")
_OF_CARDS = re.compile(r"([0-9]+) of ([0-9]+) cards")
_USE_BEFORE = re.compile(r"use before ([0-9-]{10}) -> ([0-9-]{10})")
_MADE = re.compile(r"([0-9]+) x (.+)")
_SESSION = re.compile(r"session [0-9]+ at (.+)")


def details(t: Translator, action: str, text: str) -> str:
    """The details of a deed on a card in words; what is no such text is shown as it is."""
    if action in ("voucher.top_up", "voucher.extend"):
        match = _USE_BEFORE.fullmatch(text)
        if match is not None:
            before, after = (_date(t, day) for day in match.groups())
            return f"{before} \u2192 {after}"
        return ", ".join(f"+{_amount(t, one)}" for one in _AMOUNTS.findall(text)) or text
    if action == "session.disconnect" and (match := _SESSION.fullmatch(text)):
        return t("audit.at_gateway", gateway=match[1])
    if match := _OF_CARDS.fullmatch(text):
        n, total = match.groups()
        return t("cards.details_of", part=t.number(int(n)), n=int(total))
    if match := _MADE.fullmatch(text):
        return f"{t('cards.count', n=int(match[1]))} {match[2]}"
    return text.replace(" -> ", " \u2192 ")


def _amount(t: Translator, text: str) -> str:
    if text.endswith("B"):
        return t.quota(parse_octets(text))
    return t.duration(parse_duration_s(text))


def _date(t: Translator, text: str) -> str:
    noon = datetime.combine(date.fromisoformat(text), time(12), UTC)
    return t.short_date(int(noon.timestamp()), ZoneInfo("UTC"))
