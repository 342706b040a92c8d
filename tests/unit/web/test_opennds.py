"""openNDS at the node: a real node with its pages, and a gateway's program played in Python that
speaks as the shell script does. Replays, lost and late words, silence, forged arrivals.
"""

import base64
import secrets
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from portal.opennds import bridge as opennds
from portal.opennds.talk import OK, STALE, VERSION, agent_key, sign
from radius.nas.opennds import ENTER_PATH, write_fas
from tests.unit.web.village import SECRET, Browser, Page, Village, village

NAME = "pos-nds"
MAC, IP = "02:aa:bb:cc:dd:01", "127.0.0.1"
HID = sha256(b"1a2b3c4d").hexdigest()


class Agent:
    """The program on a gateway: `talk` says lines and hears lines; `obey` does what it is told."""

    def __init__(self, place: Village) -> None:
        self.url = urlsplit(place.url)
        self.challenge = "-"
        self.key = agent_key(SECRET)
        self.phones = {MAC: (HID, IP)}
        self.commands: list[list[str]] = []
        self.sessions: dict[str, list[str]] = {}
        self.is_deaf = False
        self.bodies: list[bytes] = []
        self._is_over = threading.Event()
        self._ear = threading.Thread(target=self._listen, daemon=True)

    def body(self, *lines: str, challenge: str | None = None) -> bytes:
        head = f"{VERSION} {challenge or self.challenge} {secrets.token_hex(16)}"
        text = "\n".join((head, *lines))
        return f"{text}\nsign {sign('agent', NAME, text, self.key)}".encode()

    def post(self, body: bytes, name: str = NAME) -> tuple[int, str]:
        connection = HTTPConnection(self.url.hostname or "", self.url.port, timeout=60)
        try:
            connection.request("POST", f"/gateway/opennds/{name}", body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def talk(self, *lines: str) -> list[str]:
        for _ in range(2):
            body = self.body(*lines)
            status, answer = self.post(body)
            assert status == 200, answer
            text, _, signature = answer.rstrip("\n").rpartition("\nsign ")
            assert signature == sign("node", NAME, text, self.key)
            head, *said = text.split("\n")
            words = head.split(" ")
            assert words[3] == body.split(b"\n")[0].split(b" ")[3].decode()
            self.challenge = words[4]
            if words[2] == OK:
                self.bodies.append(body)
                return said
        raise AssertionError("stale twice")

    def _listen(self) -> None:
        done: list[str] = []
        while not self._is_over.is_set():
            try:
                heard = self.talk(*done, "listen")
            except OSError:
                return
            done = [] if self.is_deaf else [self.obey(line.split()) for line in heard]

    def obey(self, words: list[str]) -> str:
        self.commands.append(words)
        match words:
            case ["auth", number, session_id, mac, hid, *limits]:
                if self.phones.get(mac, ("", ""))[0] != hid:
                    return f"done {number} none"
                self.sessions[session_id] = [mac, *limits]
                return f"{self.line('start', session_id)}\ndone {number} ok {IP}"
            case ["end", number, session_id, _]:
                is_known = self.sessions.pop(session_id, None) is not None
                return f"done {number} {'ok' if is_known else 'none'}"
            case ["who", number, mac, hid]:
                is_so = self.phones.get(mac, ("", ""))[0] == hid
                return f"done {number} ok {IP}" if is_so else f"done {number} none"
            case ["ok", *_]:
                return ""
        return f"done {words[1]} none"

    def line(
        self,
        kind: str,
        session_id: str,
        seconds: int = 0,
        up: int = 0,
        down: int = 0,
        *,
        more: str = "- 0",
    ) -> str:
        mac, *limits = self.sessions[session_id]
        return (
            f"{kind} {session_id} {mac} {IP} {limits[6]} {limits[7]} {seconds} {up} {down} {more}"
        )

    def listen(self) -> None:
        self._ear.start()

    def close(self) -> None:
        self._is_over.set()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Village]:
    monkeypatch.setattr(opennds, "LISTEN_S", 0.5)
    monkeypatch.setattr(opennds, "LOG_IN_WITHIN_S", 1.5)
    monkeypatch.setattr(opennds, "END_WITHIN_S", 1.0)
    monkeypatch.setattr(opennds, "LOOK_UP_WITHIN_S", 0.7)
    with village(tmp_path) as found:
        found.do(
            found.node.admin.add_gateway(
                NAME, family="opennds", address="127.0.0.1", secret=SECRET, uam_secret="f" * 24
            )
        )
        yield found


@pytest.fixture
def agent(place: Village) -> Iterator[Agent]:
    found = Agent(place)
    yield found
    found.close()


def arrival(mac: str = MAC, hid: str = HID, **more: str) -> str:
    fas = write_fas(hid, mac.replace(":", ""), NAME, "http://10.65.0.1:2050")
    return urlencode({"fas": fas, **more})


def arrive(place: Village, mac: str = MAC, hid: str = HID) -> Page:
    return Browser().get(f"{place.url}/?{arrival(mac, hid)}")


def log_in(place: Village, agent: Agent, code: str | None = None) -> tuple[Page, str]:
    """A phone that types a card: the last page, and its serial."""
    serial = ""
    if code is None:
        code, serial = place.issue()
    return Browser().submit(arrive(place), kode=code), serial


def sessions(place: Village) -> list[Any]:
    return place.call(lambda: [live.session for live in place.node.sessions.in_memory()])


# --- who may speak


def test_only_the_program_with_the_key_is_heard(place: Village, agent: Agent) -> None:
    assert agent.post(b"")[0] == 403
    assert agent.post(agent.body("on"), "pos-other")[0] == 403
    agent.key = agent_key("another secret")
    assert agent.post(agent.body("on"))[0] == 403
    assert agent.post(b"x" * 200_000)[0] in (403, 413)


def test_what_was_said_once_is_not_heard_again(place: Village, agent: Agent) -> None:
    code, serial = place.issue()
    agent.listen()
    log_in(place, agent, code)
    session_id = next(iter(agent.sessions))
    agent.talk(agent.line("use", session_id, 60, 100, 1_000))
    replayed = agent.bodies[-1]
    agent.talk(agent.line("use", session_id, 120, 200, 2_000))
    status, answer = agent.post(replayed)
    assert (status, answer.split(" ")[2]) == (200, STALE)
    assert place.shown(serial)["octets_used"] == 2_200


def test_what_was_said_before_a_restart_is_not_heard_after_it(place: Village, agent: Agent) -> None:
    agent.talk("on")
    place.service.opennds._agents.clear()
    status, answer = agent.post(agent.body("on"))
    assert (status, answer.split(" ")[2]) == (200, STALE)
    assert agent.talk("on") == ["ok on -"]


# --- logging in


def test_a_card_lets_a_phone_in_with_its_limits(place: Village, agent: Agent) -> None:
    place.set_profile("cepat", data_day="3MB", rate_down="2M", rate_up="512k", idle="15m")
    code, serial = place.issue("cepat")
    agent.listen()
    page, _ = log_in(place, agent, code)
    assert urlsplit(page.url).path == "/connected"
    assert "Internet sudah menyala" in page.text
    [limits] = [words[5:] for words in agent.commands if words[0] == "auth"]
    assert limits[1:5] == ["3000000", "512", "2000", "900"]
    assert limits[7] == serial
    [session] = sessions(place)
    assert (session.mac, session.framed_ip, session.is_open) == ("02aabbccdd01", IP, True)


def test_the_ticket_is_good_once_and_a_page_loaded_twice_is_let_in_once(
    place: Village, agent: Agent
) -> None:
    agent.listen()
    page, _ = log_in(place, agent)
    [enter] = [hop for hop in page.hops if ENTER_PATH in hop]
    again = Browser().get(enter)
    assert urlsplit(again.url).path == "/connected"
    assert len([words for words in agent.commands if words[0] == "auth"]) == 1
    stolen = enter.replace(HID, "0" * 64)
    assert urlsplit(Browser().get(stolen).url).path == "/connected"
    assert len([words for words in agent.commands if words[0] == "auth"]) == 1


def test_a_ticket_that_is_no_good_is_replaced_once(place: Village, agent: Agent) -> None:
    code, _ = place.issue()
    form = arrive(place)
    page = Browser().post(f"{place.url}{form.action}", {**form.fields, "kode": code})
    parts = urlsplit(page.headers["location"])
    forged = [
        pair if not pair.startswith("password=") else "password=0000000000000000"
        for pair in parts.query.split("&")
    ]
    agent.listen()
    refused = Browser().get(f"{place.url}{parts.path}?{'&'.join(forged)}")
    assert "res=failed" in refused.hops[0] and "reason=reject" in refused.hops[0]
    assert urlsplit(refused.url).path == "/connected"
    assert len([words for words in agent.commands if words[0] == "auth"]) == 1
    agent.talk(agent.line("stop", next(iter(agent.sessions)), 60, more="user 0"))
    again = Browser().get(f"{place.url}{parts.path}?{'&'.join(forged)}")
    assert again.action is not None, again.text
    assert len([words for words in agent.commands if words[0] == "auth"]) == 1


@pytest.mark.parametrize(
    "query",
    [
        "",
        "hid=&user=&password=&next=",
        f"hid={HID}&user=A001-01&password=x&next=http%3A%2F%2Fevil.example%2Fconnected%3Fk%3Dx",
        f"hid={HID}&user=A001-01&password=x&next=%2F%2Fevil.example%2F",
    ],
)
def test_a_made_up_hand_off_goes_nowhere(place: Village, query: str) -> None:
    page = Browser().request("GET", f"{place.url}{ENTER_PATH}?{query}")
    assert (page.status, page.headers["location"]) == (303, "/")


def test_a_program_that_is_silent_is_said_to_be(place: Village, agent: Agent) -> None:
    agent.is_deaf = True
    agent.listen()
    page, serial = log_in(place, agent)
    assert page.action is not None and page.alert
    assert place.shown(serial)["open_sessions"] == 0
    # It hears again: the same card, the same phone.
    agent.is_deaf = False
    page = Browser().submit(page)
    assert urlsplit(page.url).path == "/connected", page.text


def test_a_phone_whose_arrival_is_old_gets_a_new_one(place: Village, agent: Agent) -> None:
    agent.listen()
    form = arrive(place)
    agent.phones[MAC] = ("0" * 64, IP)  # openNDS has started anew
    code, _ = place.issue()
    browser = Browser()
    page = browser.post(f"{place.url}{form.action}", {**form.fields, "kode": code})
    page = browser.request("GET", page.headers["location"])
    assert page.headers["location"] == "http://10.65.0.1:2050/login"


def test_a_lost_word_about_a_login_does_no_harm(place: Village, agent: Agent) -> None:
    code, serial = place.issue()
    form = arrive(place)
    first = threading.Thread(target=lambda: Browser().submit(form, kode=code))
    first.start()
    heard: list[str] = []
    while not heard:
        heard = [line for line in agent.talk("listen") if line.startswith("auth")]
    # Told again, since nobody said that it was done.
    assert [line for line in agent.talk("listen") if line.startswith("auth")] == heard
    done = agent.obey(heard[0].split()).split("\n")
    agent.talk(*done)
    agent.talk(*done)  # its answer was lost
    first.join(60)
    assert len(sessions(place)) == 1
    assert [line for line in agent.talk("listen") if line.startswith("auth")] == []


# --- believing an arrival


def test_an_arrival_is_believed_when_the_program_vouches_for_it(
    place: Village, agent: Agent
) -> None:
    agent.listen()
    page, serial = log_in(place, agent)
    session_id = next(iter(agent.sessions))
    agent.talk(agent.line("stop", session_id, 60, 0, 500_000_000, more="quota 0"))
    fresh = sha256(b"5e6f7081").hexdigest()
    agent.phones[MAC] = (fresh, IP)
    known = arrive(place, hid=fresh)
    assert serial in known.text and "habis" in known.text
    # Somebody else who knows only the MAC is shown the form, and nothing about the card.
    stranger = arrive(place, hid="1" * 64)
    assert stranger.action is not None
    assert serial not in stranger.text
    assert [words[0] for words in agent.commands].count("who") >= 2


def test_without_the_program_an_arrival_is_a_form_at_once(place: Village) -> None:
    page = arrive(place)
    assert page.status == 200 and page.action is not None


@pytest.mark.parametrize(
    "query",
    [
        "fas=%%%",
        "fas=" + base64.b64encode(b"hid=12, gatewayaddress=10.0.0.1:2050").decode(),
        "fas=" + base64.b64encode(f"hid={HID}, gatewayaddress=8.8.8.8:80".encode()).decode(),
        f"{arrival()}&iv=0123456789abcdef",
        "authaction=x&tok=y",
    ],
)
def test_a_forged_arrival_is_a_page_and_no_redirect(place: Village, query: str) -> None:
    page = Browser().request("GET", f"{place.url}/?{query}")
    assert page.status == 400


# --- returning, reporting, ending


def test_a_phone_that_is_remembered_returns_by_itself(place: Village, agent: Agent) -> None:
    agent.listen()
    log_in(place, agent)
    session_id = next(iter(agent.sessions))
    agent.talk(agent.line("stop", session_id, 60, 10, 20, more="lost 0"))
    agent.sessions.clear()
    agent.phones[MAC] = (sha256(b"5e6f7081").hexdigest(), IP)
    agent.talk(f"see {MAC} {IP} {agent.phones[MAC][0]}", f"see {MAC} {IP} {agent.phones[MAC][0]}")
    deadline = time.monotonic() + 60
    while not agent.sessions:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert len([words for words in agent.commands if words[0] == "auth"]) == 2

    stranger = "02:00:00:00:00:99"
    agent.phones[stranger] = (HID, IP)
    agent.talk(f"see {stranger} {IP} {HID}", f"see nobody {IP} {HID}", f"see {stranger} {IP} x")
    agent.talk()
    assert len(agent.sessions) == 1


def test_what_was_seen_before_a_login_does_not_let_the_phone_in_twice(
    place: Village, agent: Agent
) -> None:
    agent.listen()
    _, serial = log_in(place, agent)
    agent.talk(f"see {MAC} {IP} {HID}")
    agent.talk()
    assert len([words for words in agent.commands if words[0] == "auth"]) == 1
    [session] = sessions(place)
    assert session.is_open and not session.is_superseded


def test_words_that_are_lost_late_or_repeated_change_no_total(place: Village, agent: Agent) -> None:
    agent.listen()
    _, serial = log_in(place, agent)
    session_id = next(iter(agent.sessions))
    first = agent.line("use", session_id, 60, 100, 1_000)
    second = agent.line("use", session_id, 120, 200, 2_000)
    assert agent.talk(second) == [f"ok use {session_id}"]
    assert agent.talk(first, second, second) == [f"ok use {session_id}"] * 3
    assert place.shown(serial)["octets_used"] == 2_200
    stop = agent.line("stop", session_id, 180, 300, 3_000, more="user 30")
    agent.talk(stop)
    agent.talk(stop, first, agent.line("start", session_id))
    shown = place.shown(serial)
    assert (shown["octets_used"], shown["open_sessions"]) == (3_300, 0)
    [session] = sessions(place)
    assert session.end_cause == "User-Request"
    assert agent.talk("stop x", "use 1 2 3", "jump") == ["bad stop x", "bad use 1"]


def test_a_router_that_starts_closes_what_it_had(place: Village, agent: Agent) -> None:
    agent.listen()
    _, serial = log_in(place, agent)
    assert agent.talk("on") == ["ok on -"]
    assert place.shown(serial)["open_sessions"] == 0


def test_the_desk_is_told_what_the_program_answered(place: Village, agent: Agent) -> None:
    agent.listen()
    log_in(place, agent)
    [session] = sessions(place)
    answer = place.do(place.node.history.disconnect(session.id))
    assert answer["outcome"] == "ack"
    # An answer proves nothing: a session has ended when accounting says so.
    assert session.is_open
    agent.is_deaf = True
    assert place.do(place.node.history.disconnect(session.id))["outcome"] == "timeout"
    assert session.is_open
    # Only that there is no such session is believed, as there will be no more word of it.
    agent.is_deaf = False
    answer = place.do(place.node.history.disconnect(session.id))
    assert (answer["outcome"], answer["error_cause"]) == ("nak", 503)
