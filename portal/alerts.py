"""Alerts: what an overview says that somebody should act on. Pure.

Outside a site's power window nothing that is silent is a fault. Every alert has words for what is
wrong and what to do, the texts `home.alert_<name>` and `home.alert_<name>_do`.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from portal.certificates import ADVISED_BEFORE_S, WARNED_BEFORE_S, Fault
from portal.link_watch import DOWN
from portal.overview import SILENT, Overview

FREE_AT_LEAST_OCTETS = 200_000_000
"""Below this a village's box fills up within months, not years."""
MANY_MISSES = 200
"""Wrong codes a day; portal-ux counts more as odd."""
BACKUP_OLD_S = 3 * 86_400
NEVER_BACKED_UP_S = 2 * 86_400
"""A box that is on for so long has had its chance to make the first one."""
HUB_AWAY_S = 86_400
"""Records wait at the node for weeks: a hub that is away for hours is nothing to tell."""


class Level(StrEnum):
    """How bad it is, and so the shape beside it."""

    BAD = "bad"
    """Residents or their records suffer now."""
    LOW = "low"
    """It will become bad."""
    NOTE = "note"
    """Good to know."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing to act on."""

    name: str
    level: Level
    values: dict[str, object] = field(default_factory=dict)
    """What goes into its words, with the unit at the end of the name: `since_at`, `free_octets`."""


def alerts(found: Overview) -> list[Alert]:
    """Everything in an overview to act on, the worst first."""
    listed = [*_of_box(found), *_of_certificate(found), *_of_link(found), *_of_work(found)]
    order = list(Level)
    return sorted(listed, key=lambda alert: order.index(alert.level))


def _of_box(found: Overview) -> list[Alert]:
    listed = []
    if found.is_disk_full:
        listed.append(Alert("disk_full", Level.BAD))
    else:
        if not found.is_healthy:
            listed.append(Alert("database", Level.BAD))
        if found.disk_free_octets < FREE_AT_LEAST_OCTETS:
            listed.append(Alert("disk_filling", Level.LOW, {"free_octets": found.disk_free_octets}))
    if found.is_clock_doubtful:
        listed.append(Alert("clock", Level.LOW, {"now_at": found.now_at}))
    if found.backup_at is None:
        if found.now_at - found.up_since_at > NEVER_BACKED_UP_S:
            listed.append(Alert("backup_none", Level.LOW))
    elif found.now_at - found.backup_at > BACKUP_OLD_S:
        listed.append(Alert("backup_old", Level.LOW, {"made_at": found.backup_at}))
    return listed


def _of_certificate(found: Overview) -> list[Alert]:
    look = found.certificate
    if look is None:
        return []
    if look.ends_at is None:
        listed = [Alert("certificate_untrusted", Level.LOW)]
    elif look.fault is Fault.ENDED or found.now_at >= look.ends_at:
        listed = [Alert("certificate_ended", Level.BAD, {"since_at": look.ends_at})]
    elif look.fault is not None:
        listed = [Alert("certificate_untrusted", Level.LOW)]
    elif (left_s := look.ends_at - found.now_at) < ADVISED_BEFORE_S:
        listed = [Alert("certificate_last_days", Level.BAD, {"n": left_s // 86_400})]
    elif left_s < WARNED_BEFORE_S:
        listed = [Alert("certificate_ending", Level.LOW, {"n": left_s // 86_400})]
    else:
        listed = []
    if look.is_kept:
        listed.append(Alert("certificate_kept", Level.LOW))
    return listed


def _of_link(found: Overview) -> list[Alert]:
    if not found.gateways:
        return [Alert("no_gateway", Level.LOW)]
    if not found.is_power_on:
        is_quiet = any(gateway.state == SILENT for gateway in found.gateways)
        is_quiet = is_quiet or found.internet.state == DOWN or found.dns.state == DOWN
        return [Alert("power_off", Level.NOTE)] if is_quiet else []
    listed = []
    silent = [gateway for gateway in found.gateways if gateway.state == SILENT]
    if found.is_settled:
        for gateway in silent:
            if gateway.heard_at is None:
                listed.append(Alert("gateway_unheard", Level.BAD, {"gateway": gateway.name}))
            else:
                values = {"gateway": gateway.name, "since_at": gateway.heard_at}
                listed.append(Alert("gateway_silent", Level.BAD, values))
    if found.internet.state == DOWN:
        values = {"since_at": found.internet.since_at}
        listed.append(Alert("internet_down", Level.BAD, values))
    elif found.dns.state == DOWN:
        listed.append(Alert("dns_down", Level.LOW, {"since_at": found.dns.since_at}))
    elif found.hub.state == DOWN:
        since_at = found.hub.since_at or found.now_at
        if found.now_at - since_at > HUB_AWAY_S:
            listed.append(Alert("hub_down", Level.NOTE, {"since_at": since_at}))
    if found.is_refused_by_hub:
        listed.append(Alert("hub_refuses", Level.LOW))
    if found.is_settled:
        for device in found.silent_devices:
            if device.last_heard_at is None:
                listed.append(Alert("device_unheard", Level.LOW, {"device": device.name}))
            else:
                values = {"device": device.name, "since_at": device.last_heard_at}
                listed.append(Alert("device_silent", Level.LOW, values))
    return listed


def _of_work(found: Overview) -> list[Alert]:
    listed = []
    if found.misses > MANY_MISSES:
        listed.append(Alert("many_misses", Level.LOW, {"n": found.misses}))
    if found.complaints_late:
        listed.append(Alert("complaints_late", Level.LOW, {"n": found.complaints_late}))
    elif found.complaints_open:
        listed.append(Alert("complaints", Level.NOTE, {"n": found.complaints_open}))
    return listed
