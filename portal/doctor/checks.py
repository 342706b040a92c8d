"""Doctor's checks: what the evidence about a gateway says, point by point, with the fix.

Pure: looks at `Evidence` and returns findings; gathers nothing, asks nobody. A finding names its
sentence and its fix (texts `doctor.<check>.<said>` and `doctor.fix.<fix>`), so that the command
line and the desk say the same in their languages.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from portal.disconnects import Attempt
from portal.doctor.evidence import DROPS_COUNT_S, Evidence, Finding, State
from portal.domain.session import Session
from portal.sessions import Live
from radius.packet import (
    ACCT_DELAY_TIME,
    EVENT_TIMESTAMP,
    NAS_IDENTIFIER,
    NAS_IP_ADDRESS,
    NAS_IPV6_ADDRESS,
)

START_WITHIN_S = 30
"""A Start later than this after its Accept is lost accounting, not a slow link."""
HAND_OFF_WITHIN_S = 10
"""A phone goes from the portal to its gateway, and the gateway to us, within a second or two."""
NOT_HEARD_AFTER_S = 120
"""So long watched without a packet, and the silence is a finding."""
HEARD_LATELY_S = 900
"""As long as three interims of the default profile."""
DOWNLOAD_OCTETS = 8_000_000
"""What must have moved for a direction to be told: of the 10 MB a person is asked to load."""
USUAL_OCTETS = 50_000_000
"""From here on the usual ratio of residents tells it too, without a test."""
ONE_SIDED = 3
"""So many times more one way than the other is a direction."""
OVERSHOOT_OCTETS = 10_000_000
OVERSHOOT_PART = 0.05
"""CoovaChilli looks every 3 s: at 8 Mbit/s it passed a limit of 3 MB by 2.7 MB (nas-dialects)."""
OVERSHOOT_S = 60
CLOCK_GOOD_S, CLOCK_TRUSTED_S = 60, 600
"""Beyond the second the node does not believe a gateway's own times (conformance item 38)."""
CAME_WITHIN_S = 90
"""A refused phone's sign-in page opens within this time, or its person has looked away."""


def examine(evidence: Evidence) -> list[Finding]:
    """Every check, in the order in which a new gateway comes to life."""
    findings = [check(evidence) for check in CHECKS]
    if evidence.family.USES_RADIUS:
        return findings
    # What is wrong between us and a program of ours is put right there, not in RADIUS settings.
    return [
        replace(
            one,
            fix=_AGENT_FIXES.get(one.fix or "", one.fix),
            values={**evidence.name, **one.values},
        )
        for one in findings
    ]


_AGENT_FIXES = {
    **dict.fromkeys(("reach", "accounting", "slow_start", "interims", "disconnect"), "agent"),
    **dict.fromkeys(("hand_off", "octets"), "agent"),
    **dict.fromkeys(("secret", "uam_secret", "arrival"), "agent_files"),
}


# -- reaching us -------------------------------------------------------------------------------


def heard(of: Evidence) -> Finding:
    """Whether anything comes from it."""
    dropped = min((ago_s for ago_s, _ in of.drops), default=None)
    heard_s = of.heard_s if of.family.USES_RADIUS else of.agent_heard_s
    if heard_s is not None and heard_s > float("-inf"):
        ago_s = of.elapsed_s - heard_s
        if ago_s <= HEARD_LATELY_S or not of.open_lives():
            return Finding("heard", State.OK, "yes", {"ago_s": ago_s})
        return Finding("heard", State.BAD, "silent", {"ago_s": ago_s}, "reach")
    if dropped is not None and dropped < DROPS_COUNT_S:
        return Finding("heard", State.WARN, "dropped", {"ago_s": dropped})
    stranger = min(
        (pair for pair in of.strangers if pair[0] < DROPS_COUNT_S),
        key=lambda pair: pair[0],
        default=None,
    )
    if stranger is not None:
        values = {
            "address": of.gateway.address,
            "stranger": stranger[1].address,
            "ago_s": stranger[0],
            **of.name,
        }
        return Finding("heard", State.BAD, "elsewhere", values, "address")
    watched_s = of.elapsed_s - of.seen.began_s
    state = State.BAD if watched_s > NOT_HEARD_AFTER_S else State.WAIT
    values = {"address": of.gateway.address}
    return Finding("heard", state, "no", values, "reach" if state is State.BAD else None)


def secret(of: Evidence) -> Finding:
    """Whether both sides have the same RADIUS secret."""
    if not of.family.USES_RADIUS:
        refused_ago_s = of.elapsed_s - of.agent_refused_s
        if of.agent_refused_s > of.agent_heard_s and refused_ago_s < DROPS_COUNT_S:
            return Finding("secret", State.BAD, "key", {"ago_s": refused_ago_s}, "secret")
        if of.agent_heard_s > float("-inf"):
            return Finding("secret", State.OK, "right")
    wrong = of.dropped("wrong_authenticator", "wrong_message_authenticator")
    right_s = of.seen.authentic_s
    if right_s is None:
        right_s = max((live.heard_s for live in of.lives if live.exchange), default=None)
    right_ago_s = None if right_s is None else of.elapsed_s - right_s
    if wrong is not None and (right_ago_s is None or wrong[0] < right_ago_s):
        values = {"count": wrong[1].count, "ago_s": wrong[0], **of.name}
        return Finding("secret", State.BAD, "wrong", values, "secret")
    noise_ago_s = None if of.noise_s is None else of.elapsed_s - of.noise_s
    if noise_ago_s is not None and noise_ago_s < DROPS_COUNT_S:
        if right_ago_s is None or noise_ago_s < right_ago_s:
            values = {"ago_s": noise_ago_s, **of.name}
            return Finding("secret", State.BAD, "noise", values, "secret")
    if right_ago_s is not None:
        return Finding("secret", State.OK, "right")
    if of.is_signing:
        return Finding("secret", State.OK, "was_right")
    return Finding("secret", State.WAIT, "unknown")


def signature(of: Evidence) -> Finding:
    """Message-Authenticator in Access-Requests (RFC 3579 3.2, CVE-2024-3596)."""
    if not of.family.USES_RADIUS:
        return Finding("signature", State.SKIP, "agent")
    missing = of.dropped("missing_message_authenticator", "unsigned_proxy_state")
    if missing is not None and not of.seen.signed:
        return Finding("signature", State.BAD, "lost", {"ago_s": missing[0]}, "signature_lost")
    if of.seen.signed:
        return Finding("signature", State.OK, "there")
    if of.seen.unsigned:
        return Finding("signature", State.WARN, "absent", {}, "signature")
    if of.is_signing:
        return Finding("signature", State.OK, "before")
    return Finding("signature", State.WAIT, "unknown")


def nas_id(of: Evidence) -> Finding:
    """Whether it names itself, and as what."""
    stray = of.dropped("unknown_nas_identifier")
    wanted = of.gateway.nas_id
    said, is_named = _named(of)
    if stray is not None and said != wanted:
        values = {"seen": stray[1].seen or "-", "wanted": wanted or "-", **of.name}
        return Finding("nas_id", State.BAD, "other", values, "nas_id")
    if is_named is None:
        return Finding("nas_id", State.WAIT, "unknown")
    if said is None and wanted is None:
        if is_named:
            return Finding("nas_id", State.OK, "by_address")
        return Finding("nas_id", State.WARN, "nameless", {}, "nameless")
    if wanted is None or said == wanted:
        return Finding("nas_id", State.OK, "fits", {"seen": said})
    values = {"seen": said or "-", "wanted": wanted, **of.name}
    return Finding("nas_id", State.WARN, "differs", values, "nas_id")


def _named(of: Evidence) -> tuple[str | None, bool | None]:
    """The NAS-Identifier it sends, and whether it names itself at all; None: not known."""
    if of.seen.is_named is not None:
        return of.seen.nas_id, of.seen.is_named
    for live in reversed(of.lives):
        if live.exchange is not None:
            packet = live.exchange.packet
            is_named = any(
                kind in packet.first for kind in (NAS_IDENTIFIER, NAS_IP_ADDRESS, NAS_IPV6_ADDRESS)
            )
            return packet.text(NAS_IDENTIFIER), is_named
    return None, None


# -- phones and pages --------------------------------------------------------------------------


def portal(of: Evidence) -> Finding:
    """Whether phones that are held back are sent here (walled garden, probes)."""
    seen = of.seen
    if not of.has_portal:
        return Finding("portal", State.SKIP, "own_page")
    if seen.refused_arrival is not None and not seen.arrivals:
        said = {"why": seen.refused_arrival}
        return Finding("portal", State.BAD, "refused", said, "arrival")
    if seen.arrivals:
        is_signing = of.family.SIGNS_ARRIVALS and of.gateway.uam_secret is not None
        if is_signing and not seen.signed_arrivals:
            return Finding("portal", State.BAD, "unsigned", of.name, "uam_secret")
        how = "signed" if seen.signed_arrivals else "came"
        return Finding("portal", State.OK, how, {"n": seen.arrivals})
    if seen.probes and not of.is_backhaul_down:
        values: dict[str, Any] = {"n": seen.probes, "host": seen.probe_host}
        return Finding("portal", State.WARN, "bare", values, "redirect")
    waited_s = [
        of.elapsed_s - since_s for mac, since_s in seen.held.items() if mac not in seen.came
    ]
    if waited_s and max(waited_s) > CAME_WITHIN_S:
        return Finding("portal", State.WARN, "never", {"n": len(waited_s)}, "garden")
    return Finding("portal", State.WAIT, "unknown")


def addresses(of: Evidence) -> Finding:
    """Whether the portal sees phones by their own addresses."""
    seen = of.seen
    if not of.has_portal:
        return Finding("addresses", State.SKIP, "own_page")
    if seen.hidden is not None:
        values = {"ip": seen.hidden[0], "seen": seen.hidden[1]}
        return Finding("addresses", State.WARN, "hidden", values, "masquerade")
    if seen.shown_ip is not None:
        return Finding("addresses", State.OK, "shown", {"ip": seen.shown_ip})
    return Finding("addresses", State.WAIT, "unknown")


def hand_off(of: Evidence) -> Finding:
    """Whether a right code at the portal reaches the gateway, and from there us."""
    if not of.has_portal:
        return Finding("hand_off", State.SKIP, "own_page")
    waits_s = of.ticket_waits_s
    if waits_s is not None and waits_s > HAND_OFF_WITHIN_S:
        values = {"ago_s": waits_s, "login_base": of.gateway.login_base or "-"}
        return Finding("hand_off", State.BAD, "lost", values, "hand_off")
    if of.seen.hand_off_s is not None:
        return Finding("hand_off", State.OK, "works")
    return Finding("hand_off", State.WAIT, "unknown")


def login(of: Evidence) -> Finding:
    """Whether somebody got in."""
    last = max(of.seen.logins.values(), key=lambda one: one.accepted_s, default=None)
    refusal = of.seen.refusal
    if last is not None and (refusal is None or refusal[0] <= last.accepted_s):
        values = {"serial": last.serial or "-", "ago_s": of.elapsed_s - last.accepted_s}
        return Finding("login", State.OK, "accepted", values)
    if refusal is not None:
        values = {"reason": refusal[1], "ago_s": of.elapsed_s - refusal[0]}
        return Finding("login", State.WARN, "refused", values, "refusal")
    running = of.open_lives()
    if running:
        return Finding("login", State.OK, "running", {"n": len(running)})
    return Finding("login", State.WAIT, "unknown")


# -- accounting --------------------------------------------------------------------------------


def start(of: Evidence) -> Finding:
    """Whether a Start follows an Accept in time."""
    known = {live.session.id for live in of.lives}
    logins = list(of.seen.logins.values())
    for one in logins:
        waits_s = of.elapsed_s - one.accepted_s
        if one.started_s is None and one.session_id not in known and waits_s > START_WITHIN_S:
            values = {"serial": one.serial or "-", "ago_s": waits_s}
            return Finding("start", State.BAD, "missing", values, "accounting")
    delays = [one.started_s - one.accepted_s for one in logins if one.started_s is not None]
    if delays:
        if delays[-1] > START_WITHIN_S:
            return Finding("start", State.WARN, "late", {"after_s": delays[-1]}, "slow_start")
        return Finding("start", State.OK, "in_time", {"after_s": delays[-1]})
    if logins and any(one.session_id not in known for one in logins):
        return Finding("start", State.WAIT, "due")
    if of.lives:
        return Finding("start", State.OK, "before")
    return Finding("start", State.WAIT, "unknown")


def interims(of: Evidence) -> Finding:
    """Whether usage is reported at the interval of the profile."""
    running = of.open_lives()
    for live in running:
        silent_s = of.elapsed_s - live.heard_s
        if silent_s > 1.5 * _interval_s(live) + 10:
            values = {"ago_s": silent_s, "every_s": _interval_s(live)}
            return Finding("interims", State.BAD, "late", values, "interims")
    gaps = [
        (_interval_s(live), later - earlier)
        for live in of.lives
        for earlier, later in _pairs(of.seen.reports.get(live.session.id, []))
        if later - earlier >= 5
    ]
    if gaps:
        wanted_s, gap_s = gaps[-1]
        values = {"every_s": gap_s, "wanted_s": wanted_s}
        if gap_s > 1.5 * wanted_s:
            return Finding("interims", State.BAD, "slow", values, "interims")
        if gap_s < 0.5 * wanted_s and all(gap < 0.5 * want for want, gap in gaps):
            return Finding("interims", State.WARN, "fast", values, "interims_fast")
        return Finding("interims", State.OK, "right", values)
    reported = [live for live in running if live.session.session_time_s > 0]
    if reported:
        ago_s = min(of.elapsed_s - live.heard_s for live in reported)
        return Finding("interims", State.OK, "arriving", {"ago_s": ago_s})
    if running:
        due_s = min(live.heard_s + _interval_s(live) - of.elapsed_s for live in running)
        return Finding("interims", State.WAIT, "due", {"due_s": max(0.0, due_s)})
    return Finding("interims", State.WAIT, "unknown")


def _interval_s(live: Live) -> int:
    """No gateway is asked for less than a minute (RFC 2869 2.1)."""
    return max(60, live.interim_s)


def _pairs(times: Sequence[float]) -> list[tuple[float, float]]:
    return list(zip(times, times[1:], strict=False))


def octets(of: Evidence) -> Finding:
    """Whether the reports hold amounts of data."""
    if not of.family.SENDS_OCTETS:
        return Finding("octets", State.SKIP, "none_sent")
    total = sum(live.session.octets for live in of.lives)
    if total:
        return Finding("octets", State.OK, "counted", {"used_octets": total})
    if any(live.session.session_time_s >= 60 for live in of.lives):
        return Finding("octets", State.BAD, "zero", {}, "octets")
    return Finding("octets", State.WAIT, "unknown")


def direction(of: Evidence) -> Finding:
    """Whether download is called Output, as RFC 2866 5.4 has it."""
    if not of.family.SENDS_OCTETS:
        return Finding("direction", State.SKIP, "none_sent")
    best, moved = (0, 0), 0
    for live in of.lives:
        session = live.session
        base = of.seen.base.get(session.id, (0, 0))
        received, sent = session.input_octets - base[0], session.output_octets - base[1]
        if received + sent > moved:
            best, moved = (received, sent), received + sent
    if moved >= DOWNLOAD_OCTETS:
        swap = "no" if of.gateway.swap_octets == "yes" else "yes"
        values = {"up_octets": best[0], "down_octets": best[1], "swap": swap, **of.name}
        if best[1] >= ONE_SIDED * best[0]:
            return Finding("direction", State.OK, "right", values)
        if best[0] >= ONE_SIDED * best[1]:
            return Finding("direction", State.BAD, "swapped", values, "swapped")
        return Finding("direction", State.WAIT, "mixed", values)
    up = sum(live.session.input_octets for live in of.lives)
    down = sum(live.session.output_octets for live in of.lives)
    if up + down >= USUAL_OCTETS and down >= ONE_SIDED * up:
        return Finding("direction", State.OK, "usual", {"up_octets": up, "down_octets": down})
    if of.open_lives():
        return Finding("direction", State.WAIT, "test")
    return Finding("direction", State.WAIT, "unknown")


# -- what it enforces --------------------------------------------------------------------------


def limit(of: Evidence) -> Finding:
    """Whether a session ended at or near what it was given."""
    for live in of.lives:
        session = live.session
        given = session.granted_octets
        if given is not None and session.octets > given + max(
            OVERSHOOT_OCTETS, given * OVERSHOOT_PART
        ):
            values = {"used_octets": session.octets, "given_octets": given, **_who(live)}
            if of.family.LIMITS_DATA:
                return Finding("limit", State.BAD, "data_passed", values, "limit")
            return Finding("limit", State.WARN, "data_passed", values, "limit_by_node")
        if session.granted_s is not None and session.counted_s > session.granted_s + OVERSHOOT_S:
            values = {"used_s": session.counted_s, "given_s": session.granted_s, **_who(live)}
            return Finding("limit", State.BAD, "time_passed", values, "limit")
    for live in reversed(of.lives):
        finding = _ended_at_limit(live)
        if finding is not None:
            return finding
    return Finding("limit", State.WAIT, "unknown")


def _ended_at_limit(live: Live) -> Finding | None:
    session = live.session
    if session.is_open or not session.is_stopped:
        return None
    given = session.granted_octets
    if given and session.octets >= 0.98 * given:
        values = {"used_octets": session.octets, "given_octets": given, **_who(live)}
        return Finding("limit", State.OK, "data", values)
    if session.granted_s and session.counted_s >= session.granted_s - 5:
        values = {"used_s": session.counted_s, "given_s": session.granted_s, **_who(live)}
        return Finding("limit", State.OK, "time", values)
    return None


def _who(live: Live) -> dict[str, Any]:
    return {"serial": live.serial or "-"}


def disconnect(of: Evidence) -> Finding:
    """Whether a session ends when we ask for it: an answer alone is not believed."""
    if not of.family.CAN_DISCONNECT:
        return Finding("disconnect", State.SKIP, "cannot")
    attempt = next((one for one in reversed(of.attempts) if one.answer != "unasked"), None)
    if attempt is None:
        return Finding("disconnect", State.WAIT, "test" if of.open_lives() else "unknown")
    session = _session_of(of, attempt)
    values = {
        "serial": attempt.serial or "-",
        "ms": attempt.round_trip_ms or 0,
        "cause": attempt.error_cause or 0,
    }
    if session is not None and session.is_open:
        if attempt.answer is None:
            return Finding("disconnect", State.WAIT, "asked", values)
        waits_s = of.now - (attempt.answered_at or of.now)
        if attempt.answer == "ack":
            if waits_s < START_WITHIN_S:
                return Finding("disconnect", State.WAIT, "acked", values)
            return Finding("disconnect", State.BAD, "not_believed", values, "disconnect_lie")
        if attempt.answer == "nak":
            return Finding("disconnect", State.BAD, "nak", values, "disconnect_nak")
        return Finding("disconnect", State.BAD, "timeout", values, "disconnect")
    if attempt.answer == "ack":
        return Finding("disconnect", State.OK, "ended", values)
    if attempt.answer == "nak":
        return Finding("disconnect", State.WARN, "nak_ended", values, "disconnect_nak")
    return Finding("disconnect", State.WARN, "unanswered", values, "disconnect")


def _session_of(of: Evidence, attempt: Attempt) -> Session | None:
    for live in of.lives:
        if live.session.id == attempt.session_id:
            return live.session
    return None


def clock(of: Evidence) -> Finding:
    """Whether the gateway's times are near ours (Event-Timestamp, RFC 2869 5.3)."""
    if of.is_clock_doubtful:
        return Finding("clock", State.WARN, "ours", {}, "own_clock")
    off_s = of.seen.clock_off_s
    if off_s is None:
        found = [_off_s(of, live) for live in reversed(of.lives)]
        off_s = next((one for one in found if one is not None), None)
    if off_s is None:
        if of.seen.reports or of.lives:
            return Finding("clock", State.SKIP, "unstamped")
        return Finding("clock", State.WAIT, "unknown")
    if abs(off_s) <= CLOCK_GOOD_S:
        return Finding("clock", State.OK, "right", {"off_s": abs(off_s)})
    said = "fast" if off_s > 0 else "slow"
    state = State.WARN if abs(off_s) <= CLOCK_TRUSTED_S else State.BAD
    return Finding("clock", state, said, {"off_s": abs(off_s)}, "clock")


def _off_s(of: Evidence, live: Live) -> int | None:
    if live.exchange is None:
        return None
    packet = live.exchange.packet
    stamped_at = packet.integer(EVENT_TIMESTAMP)
    if stamped_at is None:
        return None
    came_at = of.now - (of.elapsed_s - live.heard_s)
    return round(stamped_at + (packet.integer(ACCT_DELAY_TIME) or 0) - came_at)


CHECKS: tuple[Callable[[Evidence], Finding], ...] = (
    heard,
    secret,
    signature,
    nas_id,
    portal,
    addresses,
    hand_off,
    login,
    start,
    interims,
    octets,
    direction,
    limit,
    disconnect,
    clock,
)
NAMES = tuple(check.__name__ for check in CHECKS)
