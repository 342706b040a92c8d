"""Reports: an Accounting-Request as the report the domain counts, and what else it says.

Nothing is decided here: which session it is about is for `accounting`, what it adds for
`domain.session`.
"""

import functools
import logging
from typing import Final

from portal.domain.session import START, STOP, Kind, Report
from radius.nas import canonical_mac
from radius.packet import (
    ACCT_DELAY_TIME,
    ACCT_INPUT_GIGAWORDS,
    ACCT_INPUT_OCTETS,
    ACCT_OUTPUT_GIGAWORDS,
    ACCT_OUTPUT_OCTETS,
    ACCT_SESSION_ID,
    ACCT_SESSION_TIME,
    ACCT_TERMINATE_CAUSE,
    CALLING_STATION_ID,
    EVENT_TIMESTAMP,
    FRAMED_IP_ADDRESS,
    Packet,
    number,
)

log = logging.getLogger(__name__)

EVENT_TIMESTAMP_TRUST_S: Final = 600
"""A gateway's own time of an event is believed this near to ours (item 38)."""
COUNTER_MAX_OCTETS: Final = 1 << 50
"""A petabyte in one session is a broken counter."""
SESSION_TIME_MAX_S: Final = 31 * 86_400
"""Sessions end after a day at most: a longer time is a negative number, or a gateway's clock that
was put right from 1970. Ours then tells how long the session has run (item 41)."""
DELAY_MAX_S: Final = 86_400
_NO_ADDRESS: Final = "0.0.0.0"
USER_REQUEST, NAS_REBOOT = "User-Request", "NAS-Reboot"

TERMINATE_CAUSES = {
    1: USER_REQUEST,
    2: "Lost-Carrier",
    3: "Lost-Service",
    4: "Idle-Timeout",
    5: "Session-Timeout",
    6: "Admin-Reset",
    7: "Admin-Reboot",
    8: "Port-Error",
    9: "NAS-Error",
    10: "NAS-Request",
    11: NAS_REBOOT,
    12: "Port-Unneeded",
    13: "Port-Preempted",
    14: "Port-Suspended",
    15: "Service-Unavailable",
    16: "Callback",
    17: "User-Error",
    18: "Host-Request",
}
"""RFC 2866 5.10."""


@functools.lru_cache(maxsize=16_384)
def mac_of(value: bytes) -> str | None:
    """A Calling-Station-Id as 12 hex digits, None when it is no MAC."""
    return canonical_mac(value.decode("ascii", "replace"))


def calling_mac(packet: Packet) -> str | None:
    """The phone of a packet, None when the gateway does not say."""
    value = packet.first.get(CALLING_STATION_ID)
    return None if value is None else mac_of(value)


def framed_ip(packet: Packet) -> str | None:
    """The phone's address, None when the gateway does not know it yet."""
    address = packet.address(FRAMED_IP_ADDRESS)
    return None if address == _NO_ADDRESS else address


def event_at(packet: Packet, now: int) -> int:
    """When it happened: receipt less Acct-Delay-Time, or the gateway's own time if that is near."""
    first = packet.first
    happened_at = now
    if ACCT_DELAY_TIME in first:
        happened_at -= min(packet.integer(ACCT_DELAY_TIME) or 0, DELAY_MAX_S)
    if EVENT_TIMESTAMP in first:
        stamped_at = packet.integer(EVENT_TIMESTAMP) or 0
        if abs(stamped_at - happened_at) <= EVENT_TIMESTAMP_TRUST_S:
            return min(stamped_at, now)
    return happened_at


def _counter(low: bytes | None, gigawords: bytes | None) -> int | None:
    if low is None or len(low) != 4:
        return None
    octets = number(low)
    if gigawords is not None and len(gigawords) == 4:
        octets += number(gigawords) << 32
        if octets > COUNTER_MAX_OCTETS:
            return None
    return octets


def report(packet: Packet, kind: Kind, happened_at: int, *, is_swapped: bool) -> Report:
    """What a Start, Interim or Stop says, upload and download the right way round."""
    get = packet.first.get
    more_received, more_sent = get(ACCT_INPUT_GIGAWORDS), get(ACCT_OUTPUT_GIGAWORDS)
    received = _counter(get(ACCT_INPUT_OCTETS), more_received)
    sent = _counter(get(ACCT_OUTPUT_OCTETS), more_sent)
    if is_swapped:
        received, sent = sent, received
    end_cause = None
    if kind is STOP:
        cause = packet.integer(ACCT_TERMINATE_CAUSE)
        end_cause = "Unknown" if cause is None else TERMINATE_CAUSES.get(cause, str(cause))
    session_time_s = 0 if kind is START else packet.integer(ACCT_SESSION_TIME)
    if session_time_s is not None and session_time_s > SESSION_TIME_MAX_S:
        log.warning(
            "session_time_ignored acct_session_id=%r seconds=%d expected=0..%d",
            *(packet.text(ACCT_SESSION_ID), session_time_s, SESSION_TIME_MAX_S),
        )
        session_time_s = None
    return Report(
        kind,
        happened_at,
        session_time_s,
        received,
        sent,
        more_received is not None or more_sent is not None,
        end_cause,
    )
