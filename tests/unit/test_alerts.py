"""Alerts: what an overview says that somebody should act on."""

from dataclasses import replace
from typing import Any

import pytest

from portal.alerts import Level, alerts
from portal.certificates import Fault
from portal.link_watch import Look
from portal.overview import CertificateLook, GatewayLook, Overview, SilentDevice

NOW_AT = 1_795_233_600
DAY_S = 86_400
WELL = Overview(
    now_at=NOW_AT,
    up_since_at=NOW_AT - 5 * DAY_S,
    is_power_on=True,
    is_settled=True,
    is_healthy=True,
    is_disk_full=False,
    disk_free_octets=5_000_000_000,
    is_clock_doubtful=False,
    gateways=(GatewayLook("pos-1", "heard", NOW_AT - 60),),
    internet=Look("up", NOW_AT),
    dns=Look("up", NOW_AT),
    hub=Look("unset"),
    online=3,
    given_today=4,
    unused_today=1,
    month_octets=10**9,
    misses=200,
    complaints_open=0,
    complaints_late=0,
    silent_devices=(),
    backup_at=NOW_AT - DAY_S,
)
DOWN = Look("down", NOW_AT, NOW_AT - 3_600)


def names(**changes: Any) -> list[str]:
    return [alert.name for alert in alerts(replace(WELL, **changes))]


def test_a_site_that_is_well_has_no_alerts() -> None:
    assert alerts(WELL) == []
    look = CertificateLook(NOW_AT + 21 * DAY_S, None, is_kept=False)
    assert names(certificate=look) == []


@pytest.mark.parametrize(
    ("changes", "name", "level", "values"),
    [
        ({"misses": 201}, "many_misses", Level.LOW, {"n": 201}),
        ({"is_clock_doubtful": True}, "clock", Level.LOW, {"now_at": NOW_AT}),
        ({"disk_free_octets": 1}, "disk_filling", Level.LOW, {"free_octets": 1}),
        ({"is_disk_full": True, "is_healthy": False}, "disk_full", Level.BAD, {}),
        ({"is_healthy": False}, "database", Level.BAD, {}),
        ({"gateways": ()}, "no_gateway", Level.LOW, {}),
        ({"internet": DOWN}, "internet_down", Level.BAD, {"since_at": NOW_AT - 3_600}),
        ({"dns": DOWN}, "dns_down", Level.LOW, {"since_at": NOW_AT - 3_600}),
        ({"complaints_open": 2}, "complaints", Level.NOTE, {"n": 2}),
        ({"complaints_open": 2, "complaints_late": 1}, "complaints_late", Level.LOW, {"n": 1}),
        (
            {"certificate": CertificateLook(NOW_AT + 21 * DAY_S - 1, None, is_kept=False)},
            "certificate_ending",
            Level.LOW,
            {"n": 20},
        ),
        (
            {"certificate": CertificateLook(NOW_AT + 7 * DAY_S - 1, None, is_kept=False)},
            "certificate_last_days",
            Level.BAD,
            {"n": 6},
        ),
        (
            {"certificate": CertificateLook(NOW_AT, None, is_kept=False)},
            "certificate_ended",
            Level.BAD,
            {"since_at": NOW_AT},
        ),
        (
            {"certificate": CertificateLook(NOW_AT - 5, Fault.ENDED, is_kept=False)},
            "certificate_ended",
            Level.BAD,
            {"since_at": NOW_AT - 5},
        ),
        (
            {"certificate": CertificateLook(NOW_AT + DAY_S, Fault.OTHER_NAME, is_kept=False)},
            "certificate_untrusted",
            Level.LOW,
            {},
        ),
        (
            {"certificate": CertificateLook(NOW_AT + 60 * DAY_S, None, is_kept=True)},
            "certificate_kept",
            Level.LOW,
            {},
        ),
        ({"backup_at": None}, "backup_none", Level.LOW, {}),
        (
            {"backup_at": NOW_AT - 4 * DAY_S},
            "backup_old",
            Level.LOW,
            {"made_at": NOW_AT - 4 * DAY_S},
        ),
        (
            {"gateways": (GatewayLook("pos-1", "silent", NOW_AT - 1_000),)},
            "gateway_silent",
            Level.BAD,
            {"gateway": "pos-1", "since_at": NOW_AT - 1_000},
        ),
        (
            {"gateways": (GatewayLook("pos-1", "silent", None),)},
            "gateway_unheard",
            Level.BAD,
            {"gateway": "pos-1"},
        ),
        (
            {"silent_devices": (SilentDevice("Mesin absen", NOW_AT - 9_000),)},
            "device_silent",
            Level.LOW,
            {"device": "Mesin absen", "since_at": NOW_AT - 9_000},
        ),
        (
            {"silent_devices": (SilentDevice("Mesin absen", None),)},
            "device_unheard",
            Level.LOW,
            {"device": "Mesin absen"},
        ),
        (
            {"hub": Look("down", NOW_AT, NOW_AT - 2 * DAY_S)},
            "hub_down",
            Level.NOTE,
            {"since_at": NOW_AT - 2 * DAY_S},
        ),
        ({"is_refused_by_hub": True}, "hub_refuses", Level.LOW, {}),
    ],
)
def test_each_fault_is_one_alert(
    changes: dict[str, Any], name: str, level: Level, values: dict[str, object]
) -> None:
    (alert,) = alerts(replace(WELL, **changes))
    assert (alert.name, alert.level, alert.values) == (name, level, values)


def test_outside_the_power_window_silence_is_no_alarm() -> None:
    silent = (GatewayLook("pos-1", "silent", NOW_AT - 9_000),)
    device = (SilentDevice("Mesin absen", NOW_AT - 9_000),)
    found = names(
        is_power_on=False,
        is_settled=False,
        gateways=silent,
        internet=DOWN,
        dns=DOWN,
        silent_devices=device,
    )
    assert found == ["power_off"]


def test_outside_the_power_window_a_gateway_that_speaks_needs_no_note() -> None:
    assert names(is_power_on=False, is_settled=False) == []


def test_right_after_the_power_came_nothing_is_expected_to_have_spoken() -> None:
    silent = (GatewayLook("pos-1", "silent", NOW_AT - 9_000),)
    device = (SilentDevice("Mesin absen", NOW_AT - 9_000),)
    assert names(is_settled=False, gateways=silent, silent_devices=device) == []


def test_what_the_box_itself_suffers_is_told_in_and_out_of_the_power_window() -> None:
    found = names(is_power_on=False, internet=DOWN, is_disk_full=True, is_clock_doubtful=True)
    assert found == ["disk_full", "clock", "power_off"]


def test_a_link_that_is_down_is_told_once_and_not_by_its_names_and_hub_too() -> None:
    hub = Look("down", NOW_AT, NOW_AT - 2 * DAY_S)
    assert names(internet=DOWN, dns=DOWN, hub=hub) == ["internet_down"]


def test_a_hub_away_for_hours_is_nothing_to_tell() -> None:
    assert names(hub=DOWN) == []


def test_a_box_just_started_has_had_no_time_for_a_backup() -> None:
    assert names(backup_at=None, up_since_at=NOW_AT - DAY_S) == []


def test_the_worst_comes_first() -> None:
    found = alerts(replace(WELL, complaints_open=1, misses=500, internet=DOWN, backup_at=None))
    assert [alert.level for alert in found] == ["bad", "low", "low", "note"]
