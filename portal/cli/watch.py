"""The command `pesisir watch`: what happens to packets and phones, told while it happens."""

import json
import sys
import time
from datetime import datetime
from typing import Any

import click

from portal import control
from portal.cli.doctor import for_option
from portal.cli.terminal import Command, complete_from, duration, existing_directory, mac, octets
from portal.domain.voucher import CODE_DIGITS
from portal.errors import UserError

_VERDICT_COLOURS = {
    "accept": "green",
    "reject": "yellow",
    "dropped": "red",
    "unanswered": "red",
    "refused": "red",
    "timeout": "red",
    "nak": "red",
    "skipped": "yellow",
}
_STATUSES = {"start": "Start", "interim": "Interim", "stop": "Stop"}
REASONS = {
    "used_up_data": "its data is used up",
    "used_up_time": "its time is used up",
    "expired": "the card has expired",
    "use_before_passed": "its last day for a first login has passed",
    "outside_hours": "outside its hours",
    "reserved": "another phone holds the rest of its quota",
    "revoked": "the card is revoked",
    "replaced": "the card was replaced",
    "in_use": "all its devices are in use",
    "unknown_code": "no card has this code",
    "mistyped": "the code is mistyped",
    "wrong_password": "no card has this code or password",
    "unknown_phone": "this phone has to type a code first",
    "too_many_misses": "too many wrong codes from this phone",
    "too_many_moves": "the card was moved too often today",
    "challenge_stale": "the one-time password is too old, or was hidden with an old challenge",
    "disk_full": "the disk is full or cannot be written",
    "blocked": "the phone is blocked at this site",
    "bad_request": "the request has no name, or a password that cannot be read",
    "data_not_counted": "the card has a data quota, and this make of gateway counts no data",
}
"""Why a phone was refused: domain.quota.Reason in words."""
DROPS = {
    "unknown_client": "no gateway has this address"
    " (pesisir gateway add NAME --address {source} --family F)",
    "unknown_nas_identifier": "no gateway at this address has the NAS-Identifier {nas_id}",
    "malformed": "it is not well-formed: {detail}",
    "wrong_code": "{detail}",
    "wrong_authenticator": "signed with another secret (pesisir gateway show {gateway} --secret)",
    "wrong_message_authenticator": "signed with another secret"
    " (pesisir gateway show {gateway} --secret)",
    "missing_message_authenticator": "it lacks the Message-Authenticator this address sent before",
    "unsigned_proxy_state": "unsigned with a Proxy-State, which may be forged (CVE-2024-3596)",
}
"""Why a packet was dropped: the counters of radius.server in words."""


@click.command("watch", cls=Command)
@click.option(
    "--gateway",
    metavar="NAME",
    shell_complete=complete_from("gateways", "name"),
    help="Only this gateway.",
)
@click.option("--serial", metavar="S", help="Only this card.")
@click.option(
    "--last",
    metavar="N",
    type=click.IntRange(0),
    default=0,
    help="First the last N events, where somebody watched before (else none).",
)
@for_option("Leave after so long, such as 60s.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line.")
def watch(as_json: bool, for_s: int | None, **wanted: Any) -> None:
    """Tell in plain words what happens: packet, gateway, verdict, reason.

    Codes, passwords and secrets are never shown. Begins with what was dropped in the last ten
    minutes, and goes on until Ctrl-C.
    """
    deadline_s = None if for_s is None else time.monotonic() + for_s
    with control.Following(existing_directory(), "watch", wanted) as events:
        if not as_json and sys.stderr.isatty():
            click.echo("Watching; Ctrl-C ends it.", err=True)
        while deadline_s is None or time.monotonic() < deadline_s:
            left_s = 3600.0 if deadline_s is None else deadline_s - time.monotonic()
            try:
                event = events.next(left_s)
            except EOFError:
                raise UserError("the node has stopped") from None
            if event is not None:
                click.echo(json.dumps(event) if as_json else _line(event))
                sys.stdout.flush()


def _line(event: dict[str, Any]) -> str:
    clock = datetime.fromtimestamp(event["at"]).astimezone().strftime("%H:%M:%S")
    who = event["gateway"] or event["source"].rpartition(":")[0] or event["source"] or "-"
    text = sentence(event)
    colour = _VERDICT_COLOURS.get(event["verdict"])
    return f"{clock}  {who:<14}  {click.style(text, fg=colour) if colour else text}"


def sentence(event: dict[str, Any]) -> str:
    """An event (portal/trace.py) in plain words."""
    match event["kind"]:
        case "access":
            return _access(event)
        case "accounting":
            return _accounting(event)
        case "dropped":
            return _dropped(event)
        case "arrival":
            return _arrival(event)
        case "probe":
            facts = event["facts"]
            return (
                f"Phone at {event['source']} asked for {facts['host']}{facts['path']}"
                " -> sent to the portal"
            )
        case "status":
            said = {"answered": "answered"}.get(
                event["verdict"], "left unanswered: usage cannot be stored now"
            )
            return f"Status-Server -> {said}"
        case "disconnect" | "coa":
            return _asked(event)
        case "skipped":
            return f"{event['facts']['count']} events left out: they came faster than read"
    return str(event["kind"])


def _access(event: dict[str, Any]) -> str:
    facts, verdict = event["facts"], event["verdict"]
    if verdict == "again":
        return f"Access-Request again{_from(event)} -> {_again(facts)}"
    how = {
        "serial": "one-time password of",
        "mac": "phone asks by its MAC",
        "code": "code",
        "digits": "no code:",
        "other": "no code: a name of",
    }[facts["how"]]
    name = "" if facts["how"] == "mac" else f" {facts['user']}"
    if facts["how"] == "digits":
        is_whole = facts["user"] == f"{CODE_DIGITS} digits"
        name += ", at least one of them wrong" if is_whole else f", a code has {CODE_DIGITS}"
    card = f" = {event['serial']}" if facts["how"] == "code" and event["serial"] else ""
    signed = "" if facts["is_signed"] else ", not signed"
    head = f"Access-Request: {how}{name}{card}{_from(event)}{signed}"
    if verdict == "accept":
        card = f" {event['serial']}" if facts["how"] == "mac" and event["serial"] else ""
        return f"{head} -> Accept{card}: {_grant(facts)}{_ms(event)}"
    if verdict == "reject":
        why = REASONS.get(event["reason"], event["reason"] or "not acceptable")
        return f"{head} -> Reject: {why}{_ms(event)}"
    return f"{head} -> left unanswered, the gateway will ask again"


def _grant(facts: dict[str, Any]) -> str:
    parts = []
    if facts.get("granted_octets") is not None:
        parts.append(octets(facts["granted_octets"]))
    if facts.get("granted_s") is not None:
        parts.append(f"{duration(facts['granted_s'])} of time")
    if facts.get("session_timeout_s") is not None:
        parts.append(f"at most {duration(facts['session_timeout_s'])}")
    if facts.get("interim_s") is not None:
        parts.append(f"a report every {duration(facts['interim_s'])}")
    return ", ".join(parts) or "no limit"


def _accounting(event: dict[str, Any]) -> str:
    facts, verdict = event["facts"], event["verdict"]
    if verdict == "again":
        return f"Accounting-Request again{_from(event)} -> {_again(facts)}"
    status = facts["status"]
    if status in ("on", "off"):
        said = "has started: its older sessions are closed" if status == "on" else "stops"
        head = f"Accounting-{status.capitalize()}: it {said}"
    else:
        who = event["serial"] or "a user nobody knows"
        head = f"{_STATUSES.get(status, 'Accounting ' + status)} of {who}{_from(event)}"
        if facts.get("time_s") is not None and status != "start":
            head += (
                f": {duration(facts['time_s'])}, {octets(facts['input_octets'])} up,"
                f" {octets(facts['output_octets'])} down"
            )
        if status == "stop" and facts.get("cause"):
            head += f", {facts['cause']}"
    if abs(facts.get("clock_off_s") or 0) > 600:
        head += f" (its clock is {duration(abs(facts['clock_off_s']))} wrong)"
    if verdict == "unanswered":
        return f"{head} -> left unanswered: it could not be stored"
    if event["reason"] == "ignored":
        return f"{head} -> answered, counts for nobody{_ms(event)}"
    return f"{head} -> stored, answered{_ms(event)}"


def _dropped(event: dict[str, Any]) -> str:
    facts = event["facts"]
    pattern = DROPS.get(event["reason"], "{detail}")
    why = pattern.format(
        source=event["source"],
        gateway=event["gateway"] or "NAME",
        nas_id=facts.get("nas_id") or "(none)",
        detail=facts.get("detail") or event["reason"],
    )
    count = facts.get("count")
    if count is not None:
        many = f"{count} packets" if count > 1 else "A packet"
        return f"{many} from {event['source']} dropped: {why}"
    return f"Packet from {event['source']} dropped: {why}"


def _arrival(event: dict[str, Any]) -> str:
    facts = event["facts"]
    if event["verdict"] == "refused":
        return f"Redirect of a phone at {event['source']} refused: {facts['why']}"
    state = {
        "notyet": "to log in",
        "success": "after its login",
        "failed": "after a refused login",
        "already": "and is online already",
        "logoff": "after its logout",
    }.get(facts["state"], facts["state"])
    signed = "signed" if facts["is_signed"] else "not signed"
    hidden = ""
    if facts["ip"] and facts["ip"] != event["source"]:
        hidden = f"; its address {facts['ip']} is hidden behind {event['source']}"
    return f"Phone {mac(event['mac'])} sent to the portal {state} ({signed}){hidden}"


def _asked(event: dict[str, Any]) -> str:
    what = "Disconnect-Request" if event["kind"] == "disconnect" else "CoA-Request"
    cause = event["facts"].get("error_cause")
    said = {
        "ack": "yes",
        "nak": "refused" + (f", Error-Cause {cause}" if cause else ""),
        "timeout": "no answer",
        "unasked": "nobody to ask",
    }.get(event["verdict"], event["verdict"])
    why = f" ({event['reason']})" if event["reason"] else ""
    return f"{what} for {event['serial'] or event['session']}{why} -> {said}{_ms(event)}"


def _from(event: dict[str, Any]) -> str:
    return f" at {mac(event['mac'])}" if event["mac"] else ""


def _again(facts: dict[str, Any]) -> str:
    return "the same answer again" if facts["is_sent"] else "the first is still being worked on"


def _ms(event: dict[str, Any]) -> str:
    return "" if event["ms"] is None else f" ({event['ms']:.0f} ms)"
