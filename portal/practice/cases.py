"""The cases of the dialect suite: what gateways do, and what the node must know in the end.

Each case is played at every family that can have the habit, with a new card and a new phone. The
figures are odd numbers, so that no wrong sum is right by chance.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from portal.practice.dialects import (
    INTERIM,
    OFF,
    ON,
    START,
    STOP,
    Counters,
    HandOffError,
    Station,
    told,
)
from portal.practice.played import PlayedGateway, Use, moved
from portal.practice.suite import Missed, Outcome, World
from radius.packet import ACCESS_ACCEPT, CLASS, REPLY_MESSAGE, PacketError

USER_REQUEST, NAS_REBOOT = 1, 11
CASE_WITHIN_S = 60.0
RESEND_AFTER_S = 1.1
"""MikroTik's timeout."""
GB = 10**9
_LEFT = "Sisa waktu"
"""What a page says of a card to the phone that uses it."""
FAMILIES = ("coova", "generic", "mikrotik", "opennds", "uspot")
PORTAL = ("coova", "mikrotik", "uspot")
"""Families whose redirect and hand-off are played here."""
NO_OCTETS = {"uspot": "it sends no octets"}
NO_PORTAL = {
    "generic": "people type their code on its own page",
    "opennds": "its redirect and hand-off are tried with the real program",
}

Play = Callable[["Turn"], Awaitable[None]]


@dataclass(slots=True)
class Turn:
    """One case at one family."""

    world: World
    family: str
    gateway: PlayedGateway
    station: Station
    code: str
    serial: str

    @property
    def sends_octets(self) -> bool:
        """Whether the node can know octets of this gateway."""
        return self.gateway.dialect.sends_octets

    async def log_in(self, session_id: str | None = None) -> Use:
        """The phone logs in with its code, typed at the gateway's own page; a Start follows."""
        code = self.code.encode()
        answer, use = await self.gateway.log_in(self.station, code, code, session_id=session_id)
        if use is None:
            raise Missed(f"the code was refused: {reply_of(answer.first.get(REPLY_MESSAGE))}")
        await self.gateway.report(use, START)
        return use

    async def expect(self, up: int, down: int, seconds: int, *, open_sessions: int = 0) -> None:
        """See that the card has used exactly this in all its sessions."""
        octets = up + down if self.sends_octets else 0
        await self.world.expect(
            self.serial, octets_used=octets, seconds_used=seconds, open_sessions=open_sessions
        )

    async def expect_ways(self, up: int, down: int) -> None:
        """See that the newest session has upload and download the right way round."""
        wanted = {"input_octets": up, "output_octets": down}
        if not self.sends_octets:
            wanted = dict.fromkeys(wanted, 0)
        await self.world.expect_session(self.serial, **wanted)


def reply_of(value: bytes | None) -> str:
    """A Reply-Message in quotes."""
    return "no reason given" if value is None else repr(value.decode())


@dataclass(frozen=True, slots=True)
class Case:
    """One habit."""

    key: str
    title: str
    run: Play
    left_out: dict[str, str]
    """Families without this habit, and why."""
    is_old: bool = False
    """Played by the makes without Gigawords."""
    at_once: bool = False
    """Waits for real time and moves no clock, so that all families wait together."""
    profile: str = ""
    """The card; else with data where the gateway counts data."""

    async def play(self, world: World, families: Sequence[str]) -> list[Outcome]:
        """Play it at these families."""
        turns = [self._play(world, family) for family in families]
        if self.at_once:
            return list(await asyncio.gather(*turns))
        return [await turn for turn in turns]

    async def _play(self, world: World, family: str) -> Outcome:
        if family in self.left_out:
            return Outcome(self.title, family, "none", self.left_out[family])
        gateway = (world.old if self.is_old else world.gateways)[family]
        profile = self.profile or ("luas" if gateway.dialect.sends_octets else "waktu")
        code, serial = await world.card(profile)
        turn = Turn(world, family, gateway, world.station(), code, serial)
        try:
            await asyncio.wait_for(self.run(turn), CASE_WITHIN_S)
        except (AssertionError, PacketError, HandOffError, OSError, KeyError) as error:
            return Outcome(self.title, family, "fail", str(error) or type(error).__name__)
        return Outcome(self.title, family, "pass")


# -- the door ------------------------------------------------------------------------------


async def hand_off(turn: Turn) -> None:
    """Redirect, form, hand-off, Accept with the limits this make reads, session, Stop."""
    world, gateway, station = turn.world, turn.gateway, turn.station
    door = world.door(turn.family)
    session_id = gateway.new_session_id()
    page = await world.get(door.redirect(station, session_id))
    page = await world.type_code(page, turn.code)
    if page.location is None:
        raise Missed(f"no hand-off, status {page.status}")
    user_name, password = door.read_hand_off(page.location, station)
    answer, use = await gateway.log_in(station, user_name, password, session_id=session_id)
    if use is None:
        raise Missed(f"refused: {reply_of(answer.first.get(REPLY_MESSAGE))}")
    limits = told(gateway.dialect, answer)
    octets = 100 * GB if turn.sends_octets else None
    seen = (limits.octets, limits.down_bps, limits.up_bps, limits.idle_s)
    wanted = (octets, 2_000_000, 512_000, 900)
    # A tenth of the interim is each session's own.
    if seen != wanted or not 300 <= (limits.interim_s or 0) <= 330:
        raise Missed(f"the Accept says {limits}, expected {wanted} and an interim of 300 to 330 s")
    if not 0 < (limits.session_s or 0) <= 86_400:
        raise Missed(f"the Accept says {limits}, expected a Session-Timeout of at most a day")
    await gateway.report(use, START)
    await world.sleep(60)
    moved(use, up=101, down=907)
    await gateway.report(use, STOP, cause=USER_REQUEST)
    await turn.expect(101, 907, 60)


async def typed_code(turn: Turn) -> None:
    """The code typed at the gateway's own page; the Accept names the card, not the code."""
    use = await turn.log_in()
    if turn.family != "uspot" and use.user_name != turn.serial:
        raise Missed(f"the session's name is {use.user_name[:4]}..., expected the serial")
    await turn.world.sleep(30)
    moved(use, up=11, down=13)
    await turn.gateway.report(use, STOP, cause=USER_REQUEST)
    await turn.expect(11, 13, 30)


async def mac_return(turn: Turn) -> None:
    """The phone comes back by its MAC, as this make spells it, and goes on with the same card."""
    use = await turn.log_in()
    await turn.world.sleep(40)
    moved(use, up=1009, down=2003)
    await turn.gateway.report(use, STOP, cause=4)
    name = turn.gateway.dialect.spell_mac(turn.station.mac).encode()
    answer, again = await turn.gateway.log_in(turn.station, name, name, is_return=True)
    if again is None:
        raise Missed(f"not let in: {reply_of(answer.first.get(REPLY_MESSAGE))}")
    await turn.gateway.report(again, START)
    await turn.world.sleep(20)
    moved(again, up=3, down=5)
    await turn.gateway.report(again, STOP, cause=4)
    await turn.expect(1012, 2008, 60)


async def short_password(turn: Turn) -> None:
    """Sixteen octets of a password are all this gateway reads: the one-time password fits."""
    world, gateway, station = turn.world, turn.gateway, turn.station
    door = world.door(turn.family)
    page = await world.get(door.redirect(station, gateway.new_session_id()))
    page = await world.type_code(page, turn.code)
    user_name, password = door.read_hand_off(page.location or "", station)
    if len(password.rstrip(b"\0")) > 16:
        raise Missed(f"the one-time password has {len(password)} octets")
    answer, _ = await gateway.log_in(station, user_name, password[:16])
    if answer.code != ACCESS_ACCEPT:
        raise Missed("the password cut to 16 octets was refused")


async def refused(turn: Turn) -> None:
    """The card is revoked between the form and the gateway's question: the gateway sends the phone
    back, and the page says why, whether the Reply-Message came with it or not."""
    world, gateway, station = turn.world, turn.gateway, turn.station
    door = world.door(turn.family)
    session_id = gateway.new_session_id()
    page = await world.get(door.redirect(station, session_id))
    page = await world.type_code(page, turn.code)
    hand_off = page.location or ""
    user_name, password = door.read_hand_off(hand_off, station)
    await world.node.vouchers.revoke([turn.serial], "suite")
    answer, use = await gateway.log_in(station, user_name, password, session_id=session_id)
    if use is not None:
        raise Missed("a revoked card was let in")
    reply = answer.first.get(REPLY_MESSAGE, b"").decode()
    back = door.redirect(station, session_id, "failed", hand_off=hand_off, reply=reply)
    page = await world.get(back)
    if "dibatalkan" not in page.text:
        raise Missed(f"the page (status {page.status}) does not say that the card is revoked")


async def replayed(turn: Turn) -> None:
    """The hand-off's one-time password a second time: refused, and nobody is online by it."""
    world, gateway, station = turn.world, turn.gateway, turn.station
    door = world.door(turn.family)
    page = await world.get(door.redirect(station, gateway.new_session_id()))
    page = await world.type_code(page, turn.code)
    user_name, password = door.read_hand_off(page.location or "", station)
    answer, use = await gateway.log_in(station, user_name, password)
    if use is None:
        raise Missed(f"refused at once: {reply_of(answer.first.get(REPLY_MESSAGE))}")
    thief = world.station()
    answer, _ = await gateway.log_in(thief, user_name, password)
    if answer.code == ACCESS_ACCEPT:
        raise Missed("the password was good a second time")
    for mine in gateway.uses[-1:]:
        await gateway.report(mine, START)
    await world.expect(turn.serial, open_sessions=1)
    await gateway.report(use, STOP, cause=USER_REQUEST)


async def forged(turn: Turn) -> None:
    """A redirect with another MAC and the old signature, of a phone that is online: its page shows
    neither serial nor what is left, and a foreign login address is refused."""
    world, gateway, station = turn.world, turn.gateway, turn.station
    use = await turn.log_in()
    door = world.door(turn.family)
    thief = world.station()
    spell = gateway.dialect.spell_mac
    state = "success" if turn.family != "mikrotik" else "notyet"
    url = door.redirect(thief, use.session_id, state)
    for form in (str, lambda mac: mac.replace(":", "%3a")):
        url = url.replace(form(spell(thief.mac)), form(spell(station.mac)))
    page = await world.get(url)
    if turn.serial in page.text or _LEFT in page.text:
        raise Missed("the page shows the card of another phone")
    if turn.family != "mikrotik":
        page = await world.get(door.redirect(station, use.session_id, state))
        if _LEFT not in page.text:
            raise Missed("the phone itself is not shown what is left")
    address = gateway.place.nas_ip
    foreign = door.redirect(thief, use.session_id).replace(address, "203.0.113.9")
    page = await world.get(foreign)
    if page.status != 400 or "kode" in page.text:
        raise Missed(f"a login address at 203.0.113.9 gets a form (status {page.status})")
    await gateway.report(use, STOP, cause=USER_REQUEST)


async def resent(turn: Turn) -> None:
    """The answer to the login is lost, the gateway asks again after 1.1 s with a new Identifier:
    the same decision, one grant. The same with its Stop: counted once."""
    code = turn.code.encode()
    gateway = turn.gateway
    answer, use = await gateway.log_in(turn.station, code, code, resend_after_s=RESEND_AFTER_S)
    if use is None or answer.first.get(CLASS) is None:
        raise Missed(f"refused: {reply_of(answer.first.get(REPLY_MESSAGE))}")
    started_at = use.started_at = gateway.now()
    await gateway.report(use, START)
    moved(use, up=5, down=7)
    seconds = gateway.now() - started_at
    await gateway.report(
        use, STOP, seconds=seconds, cause=USER_REQUEST, resend_after_s=RESEND_AFTER_S
    )
    await turn.expect(5, 7, seconds)
    found = await turn.world.sessions(turn.serial)
    if len(found) != 1:
        raise Missed(f"{len(found)} sessions, expected 1")


# -- accounting ----------------------------------------------------------------------------


async def directions(turn: Turn) -> None:
    """Upload and download stand the right way round, as the packets say it."""
    use = await turn.log_in()
    await turn.world.sleep(60)
    moved(use, up=100_003, down=9_000_011)
    await turn.gateway.report(use, INTERIM)
    await turn.expect_ways(100_003, 9_000_011)
    await turn.world.sleep(60)
    moved(use, up=1, down=2)
    await turn.gateway.report(use, STOP, cause=USER_REQUEST)
    await turn.expect_ways(100_004, 9_000_013)
    await turn.expect(100_004, 9_000_013, 120)


async def swapped(turn: Turn) -> None:
    """Upload and download the wrong way round without a word: the gateway's setting turns them."""
    admin, name = turn.world.node.admin, turn.family
    is_wrong = turn.gateway.dialect.swaps
    await admin.set_gateway(name, {"swap_octets": "no" if is_wrong else "yes"})
    try:
        use = await turn.log_in()
        await turn.world.sleep(60)
        moved(use, up=100_003, down=9_000_011)
        await turn.gateway.report(use, STOP, cause=USER_REQUEST)
        await turn.expect_ways(9_000_011, 100_003)
        await turn.expect(9_000_011, 100_003, 60)
    finally:
        await admin.set_gateway(name, {"swap_octets": "auto"})


async def gigawords(turn: Turn) -> None:
    """More than 4 GiB in one direction, with Gigawords."""
    use = await turn.log_in()
    total = 0
    for _ in range(4):
        await turn.world.sleep(300)
        moved(use, up=200_003, down=1_900_000_007)
        total += 1_900_000_007
        await turn.gateway.report(use, INTERIM)
    await turn.gateway.report(use, STOP, cause=USER_REQUEST)
    await turn.expect(800_012, total, 1200)


async def wrapped(turn: Turn) -> None:
    """More than 4 GiB without Gigawords: the counter begins again, nothing is lost."""
    await gigawords(turn)


async def lost_stop(turn: Turn) -> None:
    """The Stop is lost; the phone logs in again and the old session ends at its last report."""
    use = await turn.log_in()
    await turn.world.sleep(300)
    moved(use, up=1_000_003, down=7_000_009)
    await turn.gateway.report(use, INTERIM)
    await turn.world.sleep(100)
    use.is_over = True
    again = await turn.log_in()
    await turn.world.sleep(50)
    moved(again, up=17, down=19)
    await turn.gateway.report(again, STOP, cause=USER_REQUEST)
    await turn.expect(1_000_020, 7_000_028, 350)
    found = await turn.world.sessions(turn.serial)
    if [one["ended_at"] is None for one in found] != [False, False]:
        raise Missed("a session is still open")


async def repeated_start(turn: Turn) -> None:
    """A Start comes again in the middle of the session, and after its Stop."""
    use = await turn.log_in()
    await turn.world.sleep(300)
    moved(use, up=2_000_003, down=3_000_017)
    await turn.gateway.report(use, INTERIM)
    await turn.gateway.report(use, START, delay_s=300)
    await turn.world.sleep(300)
    moved(use, up=3, down=7)
    await turn.gateway.report(use, STOP, cause=USER_REQUEST)
    await turn.gateway.report(use, START, delay_s=600)
    await turn.expect(2_000_006, 3_000_024, 600)


async def late_interim(turn: Turn) -> None:
    """An interim arrives after a later one, and once more after the Stop."""
    use = await turn.log_in()
    await turn.world.sleep(600)
    early = Counters(1_000_003, 2_000_003, 300)
    moved(use, up=1_500_007, down=2_500_009)
    await turn.gateway.report(use, INTERIM)
    await turn.gateway.report(use, INTERIM, counters=early, delay_s=300)
    moved(use, up=1, down=1)
    await turn.gateway.report(use, STOP, cause=USER_REQUEST)
    await turn.gateway.report(use, INTERIM, counters=early, delay_s=300)
    await turn.expect(1_500_008, 2_500_010, 600)


async def falling(turn: Turn) -> None:
    """The counters begin again in the middle of a session: the new ones are added."""
    use = await turn.log_in()
    await turn.world.sleep(300)
    moved(use, up=4_000_037, down=8_000_009)
    await turn.gateway.report(use, INTERIM)
    use.up_octets, use.down_octets = 301, 401
    await turn.world.sleep(300)
    await turn.gateway.report(use, INTERIM)
    moved(use, up=2, down=2)
    await turn.gateway.report(use, STOP, cause=USER_REQUEST)
    await turn.expect(4_000_340, 8_000_412, 600)


async def reused_id(turn: Turn) -> None:
    """After a reboot the gateway gives an Acct-Session-Id a second time: two sessions."""
    use = await turn.log_in("80a00001")
    await turn.world.sleep(300)
    moved(use, up=5_000_011, down=6_000_011)
    await turn.gateway.report(use, INTERIM)
    use.is_over = True
    await turn.world.sleep(1200)
    again = await turn.log_in("80a00001")
    await turn.world.sleep(60)
    moved(again, up=23, down=29)
    await turn.gateway.report(again, INTERIM)
    await turn.world.sleep(60)
    await turn.gateway.report(again, STOP, cause=USER_REQUEST)
    await turn.expect(5_000_034, 6_000_040, 420)
    found = await turn.world.sessions(turn.serial)
    if len(found) != 2:
        raise Missed(f"{len(found)} sessions, expected 2")


async def no_class(turn: Turn) -> None:
    """Class never comes back: the session is found by its name, id and phone."""
    use = await turn.log_in()
    use.class_value = None
    await turn.world.sleep(300)
    moved(use, up=600_011, down=700_001)
    await turn.gateway.report(use, INTERIM)
    again = await turn.log_in()
    again.class_value = None
    use.is_over = True
    await turn.world.sleep(60)
    moved(again, up=31, down=37)
    await turn.gateway.report(again, STOP, cause=USER_REQUEST)
    await turn.expect(600_042, 700_038, 360)


async def silence(turn: Turn) -> None:
    """The gateway loses power and says nothing when it is back: after three interims the session
    is closed at its last report."""
    use = await turn.log_in()
    await turn.world.sleep(300)
    moved(use, up=800_011, down=900_001)
    await turn.gateway.report(use, INTERIM)
    use.is_over = True
    await turn.world.sleep(899)
    turn.world.node.accounting.close_stale()
    await turn.expect(800_011, 900_001, 300, open_sessions=1)
    await turn.world.sleep(120)
    turn.world.node.accounting.close_stale()
    await turn.expect(800_011, 900_001, 300)


async def announced(turn: Turn) -> None:
    """Accounting-On after a crash closes what was open at its last report; -Off the same."""
    for status in (ON, OFF):
        use = await turn.log_in()
        await turn.world.sleep(300)
        moved(use, up=10_007, down=20_011)
        await turn.gateway.report(use, INTERIM)
        use.is_over = True
        await turn.world.sleep(60)
        await turn.gateway.announce(status)
    await turn.expect(20_014, 40_022, 600)


# -- limits and control --------------------------------------------------------------------


async def data_refused(turn: Turn) -> None:
    """A card with a data quota at a gateway without octets: refused with a plain sentence, at the
    gateway's own page and at the portal."""
    code = turn.code.encode()
    answer, use = await turn.gateway.log_in(turn.station, code, code)
    reply = answer.first.get(REPLY_MESSAGE, b"").decode()
    if use is not None or "kartu waktu" not in reply:
        raise Missed(f"answered {reply!r}, expected to be told of cards for time")
    if turn.family in PORTAL:
        world = turn.world
        door = world.door(turn.family)
        page = await world.get(door.redirect(turn.station, turn.gateway.new_session_id()))
        page = await world.type_code(page, turn.code)
        if page.location is not None or "kartu waktu" not in page.text:
            raise Missed(f"the page (status {page.status}) does not speak of cards for time")


async def disconnected(turn: Turn) -> None:
    """The desk cuts the session off: the request is what this make takes, and its Stop counts."""
    use = await turn.log_in()
    await turn.world.sleep(60)
    moved(use, up=71, down=73)
    await turn.gateway.report(use, INTERIM)
    session = (await turn.world.sessions(turn.serial))[0]
    asked = await turn.world.node.history.disconnect(session["id"])
    await turn.gateway.settled()
    if not turn.gateway.asked or turn.gateway.asked[-1][1] != "ack":
        raise Missed(f"the gateway's answers: {turn.gateway.asked[-3:]}; the node says {asked}")
    await turn.world.expect_session(turn.serial, end_cause="Admin-Reset")
    await turn.expect(71, 73, 60)


async def changed_limits(turn: Turn) -> None:
    """The card gets an hour more while its session runs: the gateway is told, in a request that
    this make takes, with the time counted from the login."""
    world, code = turn.world, turn.code.encode()
    answer, use = await turn.gateway.log_in(turn.station, code, code)
    if use is None or told(turn.gateway.dialect, answer).session_s != 7200:
        raise Missed("the Accept does not say 7200 s")
    await turn.gateway.report(use, START)
    await world.sleep(600)
    await turn.gateway.report(use, INTERIM)
    await world.node.vouchers.top_up(turn.serial, octets=None, seconds=3600, reason="suite")

    def heard() -> dict[str, object]:
        limits = None if use.changed is None else told(turn.gateway.dialect, use.changed)
        return {"session_timeout": None if limits is None else limits.session_s}

    await world.expect_told(heard, session_timeout=10_800)
    await turn.gateway.report(use, STOP, cause=USER_REQUEST)
    await turn.expect(0, 0, 600)


CASES: tuple[Case, ...] = (
    Case("hand-off", "hand-off from the portal, limits told", hand_off, NO_PORTAL),
    Case("typed-code", "code typed at the gateway's own page", typed_code, {}),
    Case("mac-return", "phone comes back by its MAC", mac_return, {}),
    Case("short-password", "password cut to 16 octets", short_password, NO_PORTAL),
    Case("refused", "refused after the hand-off, page says why", refused, NO_PORTAL),
    Case("replayed", "hand-off played again", replayed, NO_PORTAL),
    Case("forged", "forged redirect, foreign login address", forged, NO_PORTAL),
    Case("resent", "asks again after 1.1 s, new Identifier", resent, {}, at_once=True),
    Case("directions", "upload and download as it says", directions, {}),
    Case("swapped", "upload and download swapped", swapped, NO_OCTETS),
    Case("gigawords", "over 4 GiB", gigawords, NO_OCTETS),
    Case("wrapped", "over 4 GiB without Gigawords", wrapped, NO_OCTETS, is_old=True),
    Case("lost-stop", "Stop lost", lost_stop, {}),
    Case("repeated-start", "Start repeated", repeated_start, {}),
    Case("late-interim", "interims out of order", late_interim, {}),
    Case("falling", "counters fall", falling, NO_OCTETS),
    Case("reused-id", "session id used again", reused_id, {}),
    Case("no-class", "no Class", no_class, {}),
    Case("silence", "no Accounting-On after a power cut", silence, {}),
    Case(
        "announced",
        "Accounting-On and -Off",
        announced,
        {"mikrotik": "it says neither"},
    ),
    Case(
        "data-refused",
        "data card where no octets are counted",
        data_refused,
        {family: "it counts octets" for family in FAMILIES if family != "uspot"},
        profile="luas",
    ),
    Case(
        "changed-limits",
        "more time while online, by CoA",
        changed_limits,
        {
            "generic": "not known to take a CoA-Request",
            "opennds": "it speaks no RADIUS itself",
        },
        profile="pendek",
    ),
    Case(
        "disconnected",
        "Disconnect from the desk",
        disconnected,
        {"opennds": "its agent is asked, tried with the real program"},
    ),
)
