"""Check: whether a node can work, looked at from outside. What `pesisir check` prints.

A fault of the settings, the database or a port is a failure; the clock, silent gateways and the
backhaul are warnings, for a node works without them. Nothing is changed: a database of an older
program is not upgraded here.
"""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from portal import certificates, control, settings, signing
from portal import keys as node_keys
from portal.alerts import FREE_AT_LEAST_OCTETS
from portal.captivity import HIDDEN
from portal.certificates import WARNED_BEFORE_S, Fault, Standing, https_host
from portal.cli.sync import STANDINGS
from portal.cli.terminal import duration, octets, plural, when
from portal.domain.exchange import REFUSED_STANDINGS
from portal.errors import UserError
from portal.link_watch import HEARD_S
from portal.served_certificate import fits
from portal.setting_values import Listen
from portal.settings import Settings
from portal.store import db, ledger_proof
from portal.sync import trust as hub_trust

PROGRAM_FROM = datetime(2026, 11, 1, tzinfo=UTC)
"""No clock is right that says earlier: the program did not exist."""
LEDGER_SINCE = 14
"""The schema version whose ledger this program reads."""
_TIME_SERVICE = Path("/run/systemd/timesync/synchronized")

OK, WARNING, FAIL = "ok", "warning", "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    name: str
    status: str  # "ok", "warning" or "fail"
    message: str


def look(directory: Path, call: Callable[[str], Any]) -> dict[str, Any]:
    """{"ok", "checks", "settings"} of a directory; `call` asks its running node."""
    findings = [_directory(directory)]
    found: Settings | None = None
    try:
        found = settings.load_for_node(directory)
        findings.append(Finding("settings", OK, _settings_text(directory)))
    except UserError as error:
        findings.append(Finding("settings", FAIL, str(error)))
    status = _node_and_database(directory, call, findings)
    findings.append(_keys(directory))
    ledger = _ledger(directory)
    findings += [] if ledger is None else [ledger]
    if found is not None:
        findings += _ports(found, status)
        findings += _desk(found, status)
        findings += _certificate(found, status, int(datetime.now(UTC).timestamp()))
        findings += _backhaul(found, status)
    findings.append(_clock(directory, status))
    findings.append(_disk(directory))
    findings += _gateways(status)
    findings += _hub(directory, call if status is not None else None)
    shown = []
    if found is not None:
        shown = [asdict(entry) for entry in settings.describe(directory)]
    return {
        "ok": all(finding.status != FAIL for finding in findings),
        "checks": [asdict(finding) for finding in findings],
        "settings": shown,
    }


def _directory(directory: Path) -> Finding:
    if not directory.is_dir():
        return Finding("directory", FAIL, f"there is no directory {directory}")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        return Finding("directory", FAIL, f"{directory} cannot be written by this user")
    if directory.stat().st_mode & 0o077:
        return Finding(
            "directory", WARNING, f"others can look into {directory}; close it with: chmod 700"
        )
    return Finding("directory", OK, str(directory))


def _settings_text(directory: Path) -> str:
    file = directory / settings.FILE_NAME
    return f"{file} is good" if file.exists() else f"no {file}: defaults and the environment"


def _database(directory: Path, *, is_running: bool) -> Finding:
    path = directory / db.FILE_NAME
    try:
        if not path.exists():
            return Finding("database", FAIL, f"{path} is missing; make it with: pesisir init")
        version, newest = db.schema_version(path), db.migrations()[-1][0]
        if version > newest:
            return Finding(
                "database",
                FAIL,
                f"{path} has schema version {version}, newer than this program's {newest}",
            )
        # Reading all of a large file would slow the node down; SQLite tells it of damage itself.
        fault = None if is_running else db.check_file(path)
        if fault is not None:
            return Finding("database", FAIL, f"{path} is damaged: {fault}")
        size = octets(path.stat().st_size)
        if version < newest:
            return Finding(
                "database",
                OK,
                f"schema version {version}, upgraded to {newest} at the next start; {size}",
            )
        return Finding(
            "database",
            OK,
            f"schema version {version}, {'in use' if is_running else 'sound'}, {size}",
        )
    except (db.DatabaseUnusableError, OSError) as error:
        return Finding("database", FAIL, str(error).rstrip("."))


def _ledger(directory: Path) -> Finding | None:
    """Whether every record is still the one that was appended; None before there is a ledger."""
    path = directory / db.FILE_NAME
    try:
        if not path.exists() or db.schema_version(path) < LEDGER_SINCE:
            return None
        keys = signing.SigningKeys.read(directory)
        records = ledger_proof.check(path, keys.known_keys, signing.verify)
    except FileNotFoundError:
        return None
    except ledger_proof.LedgerFault as fault:
        return Finding(
            "ledger", FAIL, f"{fault}; keep this file and tell the office: it shows who is right"
        )
    except (UserError, db.DatabaseUnusableError) as error:
        return Finding("ledger", FAIL, str(error).rstrip("."))
    return Finding("ledger", OK, f"{plural(records, 'record')} as appended and as cosigned")


def _keys(directory: Path) -> Finding:
    try:
        node_keys.read(directory)
        path = directory / node_keys.FILE_NAME
        if path.stat().st_mode & 0o077:
            return Finding("keys", WARNING, f"others can read {path}; close it with: chmod 600")
        return Finding("keys", OK, "there and readable")
    except UserError as error:
        return Finding("keys", FAIL, str(error))


def _node_and_database(
    directory: Path, call: Callable[[str], Any], findings: list[Finding]
) -> dict[str, Any] | None:
    """Look at the database, and return what the running node says of itself, None without one."""
    try:
        try:
            if not (directory / db.FILE_NAME).exists():
                findings.append(_database(directory, is_running=False))
                return None
            # Owned, so that no file SQLite leaves beside the database is a stranger's.
            with control.own(directory, "check", wait_s=control.WAIT_FOR_COMMAND_S):
                findings.append(_database(directory, is_running=False))
            findings.append(Finding("node", OK, "not running"))
            return None
        except control.Held as held:
            if not held.is_node:
                raise
        findings.append(_database(directory, is_running=True))
        status: dict[str, Any] = call("status")
    except UserError as error:
        findings.append(Finding("node", WARNING, str(error)))
        return None
    if status["is_disk_full"]:
        findings.append(Finding("node", FAIL, "running, but the disk is full: logins wait"))
    elif not status["is_healthy"]:
        findings.append(Finding("node", FAIL, "running, but it cannot store usage; see its log"))
    else:
        findings.append(
            Finding("node", OK, f"running, {plural(status['open_sessions'], 'session')} open")
        )
    return status


# --- ports


def _ports(found: Settings, status: dict[str, Any] | None) -> Iterator[Finding]:
    held = {"http": [], "radius": []} if status is None else status["addresses"]
    groups = (
        ("http.listen", found.http.listen, "http"),
        ("http.operator_listen", found.http.operator_listen, "http"),
        ("radius.auth", found.radius.auth, "radius"),
        ("radius.acct", found.radius.acct, "radius"),
    )
    for name, entries, kind in groups:
        for entry in entries:
            if status is not None and entry.address in held[kind]:
                yield Finding(name, OK, f"{entry} is held by the running node")
            else:
                is_udp = kind == "radius"
                problem = _bind(entry, socket.SOCK_DGRAM if is_udp else socket.SOCK_STREAM)
                yield problem(name) if problem else Finding(name, OK, f"{entry} is free")


def _desk(found: Settings, status: dict[str, Any] | None) -> Iterator[Finding]:
    """Where operators find their desk."""
    if status is not None:
        yield Finding("desk", OK, "open at " + ", ".join(status["desk"]["urls"]))
        for warning in status["desk"]["warnings"]:
            yield Finding("desk", WARNING, warning)
    elif not found.http.operator_listen:
        yield Finding("desk", OK, "on loopback and on private addresses away from phones")


def _certificate(found: Settings, status: dict[str, Any] | None, now: int) -> Iterator[Finding]:
    """The certificate in the files and, where another one is in use, that."""
    http = found.http
    if http.tls_cert is None or http.tls_key is None:
        return
    in_use = None if status is None else status["certificate"]
    name = "certificate"
    try:
        chain, key = http.tls_cert.read_bytes(), http.tls_key.read_bytes()
    except OSError as error:
        yield Finding(name, FAIL, f"{error.filename} cannot be read: {error.strerror}")
        return
    if not fits(chain, key):
        text = f"{http.tls_cert} and {http.tls_key} do not belong together"
        if in_use is None:
            yield Finding(name, FAIL, f"{text}; expected two PEM files, without a password")
        else:
            text += f"; the node keeps the one before, which ends {when(in_use['ends_at'])}"
            yield Finding(name, WARNING, text)
        return
    if in_use is not None and in_use["refusal"] is not None:
        text = in_use["refusal"].removesuffix(".")
        text += f"; the node keeps the one before, which ends {when(in_use['ends_at'])}"
        yield Finding(name, WARNING, text)
        return
    yield _standing(found, certificates.standing(chain, https_host(http.url), now), now)
    yield _option_114(found, now)


def _standing(found: Settings, seen: Standing, now: int) -> Finding:
    name, host = "certificate", https_host(found.http.url)
    text = certificates.sentence(seen, host).removesuffix(".")
    if seen.fault is Fault.ENDED:
        return Finding(name, FAIL, f"it ended {when(seen.ends_at)}; put a renewed one in place")
    if seen.ends_at is None or seen.fault is not None:
        return Finding(name, WARNING, text[:1].lower() + text[1:])
    until = f"until {when(seen.ends_at)}"
    left_s = seen.ends_at - now
    if left_s < WARNED_BEFORE_S:
        days = plural(left_s // 86_400, "day")
        return Finding(name, WARNING, f"{until}, {days} left; put a renewed one in place")
    whose = f"phones trust it for {host}" if host else f"for {', '.join(seen.names) or 'no name'}"
    return Finding(name, OK, f"{whose} {until}")


def _option_114(found: Settings, now: int) -> Finding:
    """Whether gateways may tell phones of the Captive Portal API."""
    advice = certificates.announcement(found.http.url, found.http.tls_cert, now)
    name = "DHCP option 114"
    if advice.uri is not None:
        return Finding(name, OK, f"may be {advice.uri}")
    if https_host(found.http.url) is None:
        return Finding(name, OK, "not to be used: the portal has no https:// address with a name")
    why = advice.why.removesuffix(".")
    return Finding(
        name,
        WARNING,
        f"take it out of every gateway that has it: {why[:1].lower()}{why[1:]}",
    )


def _bind(entry: Listen, kind: socket.SocketKind) -> Callable[[str], Finding] | None:
    """None when this program could listen there now, else the finding for a name."""
    family = socket.AF_INET6 if ":" in entry.host else socket.AF_INET
    try:
        with socket.socket(family, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((entry.host, entry.port))
            if kind == socket.SOCK_STREAM:
                probe.listen(1)
        return None
    except OSError as error:
        if error.errno == errno.EACCES:
            # The service unit grants the right to the node, not to whoever runs the check.
            text = f"this user may not open {entry}; the service of docs/install-node.md may"
            return lambda name: Finding(name, WARNING, text)
        if error.errno == errno.EADDRINUSE:
            text = f"{entry} is in use by another program; expected a free port"
        elif error.errno == errno.EADDRNOTAVAIL:
            text = f"{entry} is no address of this machine"
        else:
            text = f"{entry} cannot be used: {error.strerror}"
        return lambda name: Finding(name, FAIL, text)


# --- warnings


def _backhaul(found: Settings, status: dict[str, Any] | None) -> Iterator[Finding]:
    if not found.backhaul.probes:
        yield Finding(
            "backhaul",
            WARNING,
            "unknown: no probes are set, so time on cards runs while the link is down",
        )
    elif status is None:
        yield Finding("backhaul", OK, f"{len(found.backhaul.probes)} probes; watched by the node")
    else:
        state, since = status["backhaul"]["state"], status["backhaul"]["down_since"]
        text = f"down since {when(since)}" if state == "down" else state
        yield Finding("backhaul", OK if state == "up" else WARNING, text)


def _hub(directory: Path, call: Callable[[str], Any] | None) -> Iterator[Finding]:
    try:
        trust = hub_trust.read(directory)
        found = None if trust is None or call is None else call("hub_status")
    except UserError as error:
        yield Finding("hub", WARNING, str(error))
        return
    if trust is None:
        return
    if found is None:
        yield Finding("hub", OK, f"{trust.url}; asked by the running node")
        return
    text = STANDINGS[found["standing"]]
    if found["standing"] in REFUSED_STANDINGS:
        text += "; residents are served, records are kept here"
    is_well = found["standing"] in ("new", "well")
    yield Finding("hub", OK if is_well else WARNING, f"{trust.url}: {text}")


def _clock(directory: Path, status: dict[str, Any] | None) -> Finding:
    now = datetime.now(UTC)
    seen = now.astimezone().strftime("%Y-%m-%d %H:%M %Z")
    if now < PROGRAM_FROM:
        return Finding("clock", WARNING, f"it says {seen}, before this program was written")
    if status is not None and status["is_clock_doubtful"]:
        return Finding(
            "clock", WARNING, f"it says {seen}, the node goes by {when(status['now_at'])}"
        )
    try:
        written_s = (directory / db.FILE_NAME).stat().st_mtime
    except OSError:
        written_s = 0.0
    if written_s > now.timestamp() + 120:
        return Finding("clock", WARNING, f"it says {seen}, but the database is from later")
    if not _TIME_SERVICE.exists():
        return Finding("clock", WARNING, f"it says {seen}; no time service vouches for it")
    return Finding("clock", OK, seen)


def _disk(directory: Path) -> Finding:
    try:
        found = os.statvfs(directory)
    except OSError as error:
        return Finding("disk", WARNING, f"not known: {error.strerror}")
    free = found.f_bavail * found.f_frsize
    return Finding("disk", OK if free >= FREE_AT_LEAST_OCTETS else WARNING, f"{octets(free)} free")


def _gateways(status: dict[str, Any] | None) -> Iterator[Finding]:
    if status is None:
        return
    for name in status["hiding"]:
        yield Finding(f"gateway {name}", WARNING, HIDDEN)
    if not status["gateways"]:
        yield Finding("gateways", WARNING, "none yet; add one with: pesisir gateway add")
    for gateway in status["gateways"]:
        name = f"gateway {gateway['name']}"
        heard_at = gateway["last_heard_at"]
        if heard_at is None:
            yield Finding(name, WARNING, "not heard since the node started")
            continue
        silent_s = max(0, status["now_at"] - heard_at)
        text = f"heard {duration(silent_s)} ago"
        yield Finding(name, OK if silent_s <= HEARD_S else WARNING, text)
