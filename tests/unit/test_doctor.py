"""The gateway doctor says what is right and wrong: real UDP gateways, each with one fault."""

from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from portal.doctor.doctor import WATCHED_S, Report
from portal.doctor.evidence import Finding, State
from portal.opennds.talk import agent_key, sign
from portal.practice.gateway import PracticeGateway
from portal.web.operator import doctor_words
from portal.web.text import Texts
from radius.packet import (
    ACCESS_REQUEST,
    ACCOUNTING_REQUEST,
    ACCT_DELAY_TIME,
    ACCT_SESSION_ID,
    ACCT_SESSION_TIME,
    ACCT_STATUS_TYPE,
    CALLING_STATION_ID,
    EVENT_TIMESTAMP,
    NAS_IDENTIFIER,
    USER_NAME,
    USER_PASSWORD,
    attribute,
    integer_attribute,
)
from radius.password import hide
from tests.unit.test_trace import hooks, send
from tests.unit.web.counter_gateway import CounterGateway
from tests.unit.web.village import (
    SECRET,
    Browser,
    Village,
    open_internet,
    village,
)

ENGLISH = Texts().translator("en")


@pytest.fixture
def v(tmp_path: Path) -> Iterator[Village]:
    with village(tmp_path) as found:
        found.node.disconnects._sender._waits_s = (0.1, 0.1)
        yield found


def look(place: Village, name: str, **more: Any) -> Report:
    return place.call(lambda: place.node.doctor.look(name, **more))


def finding(place: Village, name: str, check: str) -> Finding:
    (found,) = [one for one in look(place, name).findings if one.check == check]
    return found


def said(place: Village, name: str, check: str) -> tuple[str, str]:
    """State and words of one check; the words of all checks can be said."""
    report = look(place, name)
    for one in report.findings:
        doctor_words.told(ENGLISH, one)
    doctor_words.summary(ENGLISH, report)
    one = finding(place, name, check)
    return one.state.value, doctor_words.told(ENGLISH, one)["found"].replace("\u00a0", " ")


def fix(place: Village, name: str, check: str) -> str:
    return str(doctor_words.told(ENGLISH, finding(place, name, check))["fix"])


def until(place: Village, name: str, check: str, state: str) -> None:
    give_up_s = monotonic() + 30
    while (now := said(place, name, check))[0] != state:
        assert monotonic() < give_up_s, f"{check} is {now}, expected {state}"
        sleep(0.02)


def plain(place: Village, name: str = "polos", **more: Any) -> str:
    """A registered gateway of which nothing is heard."""
    options = {"family": "generic", "address": "127.0.0.1", "secret": SECRET, **more}
    place.do(place.node.admin.add_gateway(name, **options))
    return name


def phone_online(place: Village) -> tuple[PracticeGateway, Any, str]:
    """A phone that logged in at the portal; its gateway, itself and the card's serial."""
    gateway = place.add_gateway()
    look(place, nas_id(gateway))
    return (gateway, *log_in(place, gateway))


def nas_id(gateway: PracticeGateway) -> str:
    return gateway.uam.nas_id


def log_in(
    place: Village, gateway: PracticeGateway, profile: str = "harian", number: int = 0
) -> tuple[Any, str]:
    code, serial = place.issue(profile)
    browser, phone = Browser(), gateway.phones[number]
    browser.submit(open_internet(browser, gateway, phone), kode=code)
    place.do(gateway.settled())
    assert phone.is_online
    return phone, serial


START = integer_attribute(ACCT_STATUS_TYPE, 1) + attribute(ACCT_SESSION_ID, b"5e55")


# --- everything in order


def test_a_good_gateway_is_found_good_point_by_point(v: Village) -> None:
    gateway, phone, serial = phone_online(v)
    name = nas_id(gateway)
    for check in ("heard", "secret", "signature", "nas_id", "portal", "hand_off", "login", "start"):
        assert said(v, name, check)[0] == "ok", (check, said(v, name, check))
    assert said(v, name, "login")[1].startswith(f"Card {serial} was let in")
    assert said(v, name, "interims") == ("wait", "The first is due in 5 minutes.")
    assert said(v, name, "direction")[0] == "wait"

    v.do(gateway.download(phone, 10_000_000))
    v.pass_time(300)
    v.do(gateway.interim(phone))
    v.do(gateway.settled())
    assert said(v, name, "interims") == ("ok", "Come every 5 minutes; 5 minutes was asked for.")
    assert said(v, name, "octets") == ("ok", "10 MB counted.")
    assert said(v, name, "direction") == ("ok", "Down 10 MB, up 0 MB.")
    assert said(v, name, "clock")[0] == "ok"

    v.do(v.node.online.disconnect(phone_session(v)))
    until(v, name, "disconnect", "ok")
    assert f"and {serial} ended" in said(v, name, "disconnect")[1]

    v.set_profile("coba", data_total="20MB")
    phone, small = log_in(v, gateway, "coba", number=1)
    v.do(gateway.download(phone, 30_000_000))
    v.do(gateway.settled())
    assert said(v, name, "limit") == ("ok", f"Card {small} ended at 20 MB of 20 MB.")

    report = look(v, name)
    assert report.is_good and report.is_done
    states = {one.check: one.state for one in report.findings if one.state is not State.OK}
    # The practice gateway's phones come from 127.0.0.1, whatever address they have.
    assert states == {"addresses": State.WARN}
    assert doctor_words.summary(ENGLISH, report) == "Everything was seen, and is right."


def phone_session(place: Village) -> int:
    return place.call(lambda: next(place.node.sessions.open_sessions()).session.id)


def test_a_gateway_that_has_worked_for_long_is_judged_by_what_is_known(v: Village) -> None:
    gateway = CounterGateway.at(v, "lama", "127.0.0.21")
    code, serial = v.issue()
    gateway.start("0a01", serial, "02-00-00-00-00-01", octets=60_000_000)
    report = look(v, "lama")
    states = {one.check: one.state.value for one in report.findings}
    assert states["heard"] == states["secret"] == states["nas_id"] == states["start"] == "ok"
    assert states["octets"] == "ok"
    assert report.online == 1 and report.is_good and not report.is_done
    assert report.testable is not None and report.testable.serial == serial


# --- reaching us


def test_silence_is_first_waited_for_and_then_a_fault(v: Village) -> None:
    name = plain(v)
    assert said(v, name, "heard") == ("wait", "No packet from 127.0.0.1 yet.")
    v.pass_time(121)
    assert said(v, name, "heard")[0] == "bad"
    assert "1812 and 1813" in fix(v, name, "heard")


def test_packets_from_another_address_lead_to_the_right_one(v: Village) -> None:
    name = plain(v, address="127.0.0.7")
    send(v, ACCOUNTING_REQUEST, START, source="127.0.0.9")
    until(v, name, "heard", "bad")
    assert "127.0.0.9, which no gateway has" in said(v, name, "heard")[1]
    assert f"pesisir gateway set {name} --address 127.0.0.9" in fix(v, name, "heard")
    v.do(v.node.admin.set_gateway(name, {"address": "127.0.0.9"}))
    send(v, ACCOUNTING_REQUEST, START, source="127.0.0.9")
    until(v, name, "heard", "ok")


def test_a_wrong_secret_is_noticed_and_then_put_right(v: Village) -> None:
    name = plain(v)
    send(v, ACCOUNTING_REQUEST, START, secret="salah-sekali")
    until(v, name, "secret", "bad")
    assert said(v, name, "secret")[1].startswith("Wrong: 1 packets do not fit it")
    assert said(v, name, "heard")[0] == "warn"
    assert f"pesisir gateway show {name} --secret" in fix(v, name, "secret")
    v.pass_time(5)
    sleep(0.02)
    send(v, ACCOUNTING_REQUEST, START)
    until(v, name, "secret", "ok")
    assert said(v, name, "heard")[0] == "ok"


def test_an_unsigned_password_of_noise_hints_at_the_secret(v: Village) -> None:
    name = plain(v)
    body = attribute(USER_NAME, b"123456789012") + attribute(
        USER_PASSWORD, hide(b"123456789012", bytes(range(16)), b"salah-sekali")
    )
    send(v, ACCESS_REQUEST, body, is_signed=False)
    until(v, name, "secret", "bad")
    assert "unreadable" in said(v, name, "secret")[1]


def test_requests_without_message_authenticator_are_named(v: Village) -> None:
    name = plain(v)
    assert said(v, name, "signature")[0] == "wait"
    body = attribute(USER_NAME, b"x") + attribute(NAS_IDENTIFIER, b"polos")
    send(v, ACCESS_REQUEST, body, is_signed=False)
    until(v, name, "signature", "warn")
    assert "CVE-2024-3596" in fix(v, name, "signature")
    send(v, ACCESS_REQUEST, body + attribute(CALLING_STATION_ID, b"1"))
    until(v, name, "signature", "ok")
    look(v, name, begins_anew=True)
    assert said(v, name, "signature") == (
        "ok",
        "This address has sent Message-Authenticator before.",
    )
    send(v, ACCESS_REQUEST, body, is_signed=False)
    until(v, name, "signature", "bad")


def test_another_name_than_expected_is_named(v: Village) -> None:
    name = plain(v, nas_id="polos")
    plain(v, "kedua", nas_id="kedua")
    look(v, name)
    send(v, ACCOUNTING_REQUEST, START + attribute(NAS_IDENTIFIER, b"pelabuhan"))
    until(v, name, "nas_id", "bad")
    assert said(v, name, "nas_id")[1].startswith("Calls itself pelabuhan, expected polos")
    assert f"pesisir gateway set {name} --nas-id pelabuhan" in fix(v, name, "nas_id")
    send(v, ACCOUNTING_REQUEST, START + attribute(NAS_IDENTIFIER, b"polos"))
    until(v, name, "nas_id", "ok")


def test_a_lone_gateway_may_call_itself_what_it_likes(v: Village) -> None:
    name = plain(v, nas_id="polos")
    look(v, name)
    send(v, ACCOUNTING_REQUEST, START + attribute(NAS_IDENTIFIER, b"MikroTik"))
    until(v, name, "nas_id", "warn")
    v.do(v.node.admin.set_gateway(name, {"nas_id": "none"}))
    assert said(v, name, "nas_id") == ("ok", "Calls itself MikroTik.")


# --- phones and pages


def test_a_redirect_that_is_not_signed_is_a_wrong_uam_secret(v: Village) -> None:
    gateway = v.add_gateway(real_uam_secret="yang-lain")
    name = nas_id(gateway)
    assert said(v, name, "portal")[0] == "wait"
    open_internet(Browser(), gateway, gateway.phones[0])
    until(v, name, "portal", "bad")
    assert "UAM secret" in fix(v, name, "portal")


def test_a_phone_that_joined_and_never_came_is_a_closed_garden(v: Village) -> None:
    gateway = v.add_gateway()
    name = nas_id(gateway)
    look(v, name)
    v.do(gateway.connect(gateway.phones[0]))
    v.do(gateway.settled())
    assert said(v, name, "portal")[0] == "wait"
    v.pass_time(91)
    assert said(v, name, "portal") == (
        "warn",
        "Phones joined the Wi-Fi but never came to the portal (1).",
    )
    assert "generate_204" in fix(v, name, "portal")
    open_internet(Browser(), gateway, gateway.phones[0])
    until(v, name, "portal", "ok")


def test_a_probe_without_a_word_from_the_router_is_named(v: Village) -> None:
    gateway = v.add_gateway()
    name = nas_id(gateway)
    look(v, name)
    Browser().request(
        "GET", f"{v.url}/generate_204", headers={"host": "connectivitycheck.gstatic.com"}
    )
    until(v, name, "portal", "warn")
    assert "connectivitycheck.gstatic.com" in said(v, name, "portal")[1]


def test_phones_seen_by_another_address_are_masquerade(v: Village) -> None:
    gateway = v.add_gateway()
    name = nas_id(gateway)
    look(v, name)
    open_internet(Browser(), gateway, gateway.phones[0])
    until(v, name, "addresses", "warn")
    assert said(v, name, "addresses")[1].endswith("is seen as 127.0.0.1.")
    assert "masquerade" in fix(v, name, "addresses")
    entry = v.node.admin.gateway(name)
    v.call(
        lambda: v.node.trace.arrival(
            entry,
            state="notyet",
            mac=None,
            ip="10.8.0.2",
            source="10.8.0.2",
            is_signed=True,
            family="coova",
        )
    )
    assert said(v, name, "addresses")[0] == "ok"


def test_a_right_code_that_never_comes_back_is_a_lost_hand_off(v: Village) -> None:
    gateway = v.add_gateway(is_heard=False)
    name = nas_id(gateway)
    code, _ = v.issue()
    look(v, name)
    browser = Browser()
    browser.submit(open_internet(browser, gateway, gateway.phones[0]), kode=code)
    v.pass_time(11)
    until(v, name, "hand_off", "bad")
    assert f"http://127.0.0.1:{gateway.port}" in fix(v, name, "hand_off") or "127.0.0.1" in fix(
        v, name, "hand_off"
    )


def test_a_refused_card_is_said_with_its_reason(v: Village) -> None:
    gateway = CounterGateway.at(v, "pos", "127.0.0.21")
    look(v, "pos")
    code, serial = v.issue()
    v.do(v.node.vouchers.revoke([serial], "hilang"))
    body = (
        attribute(USER_NAME, code.encode())
        + attribute(USER_PASSWORD, hide(code.encode(), bytes(range(16)), SECRET.encode()))
        + attribute(NAS_IDENTIFIER, b"pos")
    )
    send(v, ACCESS_REQUEST, body, source="127.0.0.21")
    until(v, "pos", "login", "warn")
    assert said(v, "pos", "login")[1].startswith("Refused: card revoked (")
    assert gateway.name == "pos"


# --- accounting


def test_an_accept_without_a_start_is_accounting_that_does_not_arrive(v: Village) -> None:
    gateway = CounterGateway.at(v, "pos", "127.0.0.21")
    look(v, "pos")
    code, serial = v.issue()
    body = (
        attribute(USER_NAME, code.encode())
        + attribute(USER_PASSWORD, hide(code.encode(), bytes(range(16)), SECRET.encode()))
        + attribute(CALLING_STATION_ID, b"02-00-00-00-00-01")
        + attribute(NAS_IDENTIFIER, b"pos")
    )
    send(v, ACCESS_REQUEST, body, source="127.0.0.21")
    until(v, "pos", "login", "ok")
    assert said(v, "pos", "start")[0] == "wait"
    v.pass_time(31)
    assert said(v, "pos", "start")[0] == "bad"
    assert "port 1813" in fix(v, "pos", "start")
    gateway.start("0a01", serial, "02-00-00-00-00-01")
    assert said(v, "pos", "start") == ("warn", "Came 31 seconds after the Accept, which is late.")


def test_interims_that_do_not_come_or_come_too_seldom(v: Village) -> None:
    gateway = CounterGateway.at(v, "pos", "127.0.0.21")
    look(v, "pos")
    _, serial = v.issue()
    gateway.start("0a01", serial, "02-00-00-00-00-01")
    v.pass_time(520)
    assert said(v, "pos", "interims")[0] == "bad"
    assert "radius-interim-update=received" in fix(v, "pos", "interims")
    gateway.interim("0a01", 1_000_000)
    assert said(v, "pos", "interims") == (
        "bad",
        "Come every 8 minutes, but 5 minutes was asked for.",
    )
    for octets in range(2, 4):
        v.pass_time(300)
        gateway.interim("0a01", octets * 1_000_000)
    assert said(v, "pos", "interims")[0] == "ok"


def test_reports_without_octets_are_named(v: Village) -> None:
    gateway = CounterGateway.at(v, "pos", "127.0.0.21")
    _, serial = v.issue()
    gateway.start("0a01", serial, "02-00-00-00-00-01")
    assert said(v, "pos", "octets")[0] == "wait"
    v.pass_time(120)
    gateway.interim("0a01", 0)
    assert said(v, "pos", "octets")[0] == "bad"
    gateway.interim("0a01", 1_000)
    v.pass_time(60)
    gateway.interim("0a01", 2_000_000)
    assert said(v, "pos", "octets")[0] == "ok"


def test_a_download_told_as_upload_is_swapped(v: Village) -> None:
    gateway, phone, _ = phone_online(v)
    name = nas_id(gateway)
    v.do(v.node.admin.set_gateway(name, {"swap_octets": "no"}))
    v.do(gateway.download(phone, 10_000_000))
    v.do(gateway.interim(phone))
    v.do(gateway.settled())
    assert said(v, name, "direction") == ("bad", "The wrong way round: down 0 MB, up 10 MB.")
    assert f"pesisir gateway set {name} --swap-octets yes" in fix(v, name, "direction")


def test_both_ways_at_once_tell_no_direction(v: Village) -> None:
    gateway, phone, _ = phone_online(v)
    name = nas_id(gateway)
    v.do(gateway.download(phone, 6_000_000))
    v.do(gateway.upload(phone, 5_000_000))
    v.do(gateway.interim(phone))
    assert said(v, name, "direction")[0] == "wait"
    assert "Only download" in said(v, name, "direction")[1]


# --- what it enforces


def test_a_session_beyond_its_grant_is_named(v: Village) -> None:
    v.set_profile("coba", data_total="20MB")
    gateway = v.add_gateway()
    name = nas_id(gateway)
    look(v, name)
    phone, serial = log_in(v, gateway, "coba")
    # A gateway that forgets what it was told.
    phone.session.limits = type(phone.session.limits)(
        **{**_fields(phone.session.limits), "octets": None}
    )
    v.do(gateway.download(phone, 40_000_000))
    v.do(gateway.interim(phone))
    v.do(gateway.settled())
    until(v, name, "limit", "bad")
    assert said(v, name, "limit")[1] == f"Card {serial} used 40 MB though 20 MB was given."


def _fields(limits: Any) -> dict[str, Any]:
    return {name: getattr(limits, name) for name in type(limits).__dataclass_fields__}


@pytest.mark.parametrize(
    ("answer", "first", "then", "words"),
    [
        ("ack", "wait", "bad", "Answered yes, but {serial} goes on."),
        ("nak", "bad", "bad", "Refused by the router (Error-Cause 501); {serial} goes on."),
        (None, "bad", "bad", "No answer; {serial} goes on."),
    ],
)
def test_an_answer_to_disconnect_is_not_believed(
    v: Village, answer: str | None, first: str, then: str, words: str
) -> None:
    gateway = CounterGateway.at(v, "pos", "127.0.0.21")
    gateway.answer, gateway.stops_first = answer, False
    gateway.error_cause = 501 if answer == "nak" else None
    _, serial = v.issue()
    gateway.start("0a01", serial, "02-00-00-00-00-01")
    assert said(v, "pos", "disconnect")[0] == "wait"
    v.do(v.node.online.disconnect(phone_session(v)))
    give_up_s = monotonic() + 30
    while v.node.disconnects.outcomes[-1].answer is None:
        assert monotonic() < give_up_s
        sleep(0.01)
    assert said(v, "pos", "disconnect")[0] == first
    v.pass_time(31)
    assert said(v, "pos", "disconnect") == (then, words.format(serial=serial))
    assert fix(v, "pos", "disconnect") != "None"


def test_a_wrong_clock_is_named(v: Village) -> None:
    name = plain(v)
    look(v, name)
    now = int(v.clock.at)

    def report(at: int, delay_s: int = 0) -> None:
        body = integer_attribute(ACCT_STATUS_TYPE, 3) + attribute(ACCT_SESSION_ID, b"5e55")
        body += integer_attribute(ACCT_SESSION_TIME, 60) + integer_attribute(EVENT_TIMESTAMP, at)
        body += integer_attribute(ACCT_DELAY_TIME, delay_s)
        send(v, ACCOUNTING_REQUEST, body)

    report(now - 86_400 * 365)
    until(v, name, "clock", "bad")
    assert "NTP" in fix(v, name, "clock")
    report(now + 120)
    until(v, name, "clock", "warn")
    report(now - 300, delay_s=300)
    until(v, name, "clock", "ok")


# --- a program of ours in the place of RADIUS


def test_a_gateway_without_radius_is_judged_by_its_program(v: Village) -> None:
    name = plain(v, "dermaga", family="opennds")
    look(v, name)
    assert said(v, name, "signature") == ("skip", "This make speaks no RADIUS itself.")
    v.pass_time(121)
    assert said(v, name, "heard")[0] == "bad"
    assert "/etc/init.d/pesisir" in fix(v, name, "heard")
    assert v.do(v.service.opennds.take(name, b"pesisir-opennds 1 - x\nsign 00")) is None
    assert said(v, name, "secret")[0] == "bad"
    assert f"pesisir gateway config {name}" in fix(v, name, "secret")

    gateway = v.node.admin.gateway(name)
    key = agent_key(gateway.secret)
    text = "pesisir-opennds 1 - 6f1c0000-0000-0001\non"
    signed = sign("agent", name, text, key)
    v.pass_time(1)
    answer = v.do(v.service.opennds.take(name, f"{text}\nsign {signed}".encode()))
    assert answer is not None
    challenge = answer.split("\n")[0].split(" ")[-1]
    text = f"pesisir-opennds 1 {challenge} 6f1c0000-0000-0002\non"
    signed = sign("agent", name, text, key)
    answer = v.do(v.service.opennds.take(name, f"{text}\nsign {signed}".encode()))
    assert answer is not None and "ok on" in answer
    assert said(v, name, "heard") == ("ok", "Last heard 0 seconds ago.")
    assert said(v, name, "secret")[0] == "ok"


# --- watching


def test_watching_ends_when_nobody_looks_any_more(v: Village) -> None:
    name = plain(v)
    look(v, name)
    assert all(hooks(v))
    v.pass_time(WATCHED_S - 1)
    look(v, name)
    v.pass_time(WATCHED_S + 1)
    v.call(v.node.doctor.forget_old)
    assert not any(hooks(v))
    assert look(v, name).watched_s == 0


def test_a_removed_gateway_is_watched_no_more(v: Village) -> None:
    name = plain(v)
    look(v, name)
    v.do(v.node.admin.remove_gateway(name))
    v.call(v.node.doctor.forget_old)
    assert not any(hooks(v))


def test_beginning_anew_forgets_what_was_seen(v: Village) -> None:
    gateway, phone, _ = phone_online(v)
    name = nas_id(gateway)
    assert said(v, name, "portal")[0] == "ok"
    v.pass_time(10)
    look(v, name, begins_anew=True)
    assert said(v, name, "portal")[0] == "wait"
    assert phone.is_online and said(v, name, "secret")[0] == "ok"
