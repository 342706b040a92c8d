"""The whole way: phones behind a gateway, the portal's pages, RADIUS over UDP, the commands."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.village import Running, get, make_directory, run, running, send, village


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_directory(tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="module")
def node(directory: Path) -> Iterator[Running]:
    with running(directory) as node:
        yield node


def test_card_is_used_to_the_last_octet_and_then_refused(node: Running) -> None:
    async def check() -> None:
        async with village(node) as v:
            code, serial = await v.card("kecil")
            phone = v.phone

            page = await v.open_internet(phone)
            assert page.hops and "res=notyet" in page.url and "md=" in page.url
            page = await send(page.forms[0], kode=f"{code[:4]} {code[4:8]}-{code[8:]}")
            assert "res=success" in page.url, page.words
            assert "Berhasil" in page.words and "20 MB" in page.words
            # form -> 303 to the gateway -> back to the portal
            assert [hop.split("/")[2] for hop in page.hops] == [
                v.portal_url.split("/")[2],
                f"127.0.0.1:{phone.port}",
            ]
            assert (await get(f"http://127.0.0.1:{phone.port}/generate_204")).status == 204
            assert phone.session is not None and phone.session.user_name == serial
            assert phone.session.limits.octets == 20_000_000

            assert await v.gateway.download(phone, 7_000_001) == 7_000_001
            await v.gateway.interim(phone)
            await v.usage(
                serial,
                lambda shown: (
                    (shown["octets_used"], shown["octets_left"], shown["open_sessions"])
                    == (7_000_001, 12_999_999, 1)
                ),
            )
            page = await get(f"http://127.0.0.1:{phone.port}/status")
            # what is left is rounded down
            assert "12 MB" in page.words and code not in page.words.replace(" ", "")

            assert await v.gateway.upload(phone, 2_000_000) == 2_000_000
            assert await v.gateway.download(phone, 100_000_000) == 10_999_999
            assert not phone.is_online
            shown = await v.usage(serial, lambda shown: shown["octets_used"] == 20_000_000)
            assert (shown["octets_left"], shown["state"]) == (0, "used_up")
            assert (shown["open_sessions"], shown["resets_at"]) == (0, None)

            page = await v.log_in(phone, code)
            assert "sudah habis" in page.words and not phone.is_online
            assert 'role="alert"' in page.text
            assert (await get(f"http://127.0.0.1:{phone.port}/generate_204")).status == 200

    run(check)


def test_wrong_code_keeps_what_was_typed(node: Running) -> None:
    async def check() -> None:
        async with village(node) as v:
            page = await v.log_in(v.phone, "1111 1111 1111")
            assert "salah ketik" in page.words or "tidak ada" in page.words
            assert page.forms[0].fields["kode"].replace(" ", "") == "111111111111"
            assert not v.phone.is_online

    run(check)


def test_time_runs_down_to_the_second(node: Running) -> None:
    async def check() -> None:
        async with village(node) as v:
            code, serial = await v.card("singkat")
            await v.log_in(v.phone, code)
            assert v.phone.session is not None
            assert v.phone.session.limits.session_timeout_s == 1800
            interim_s = v.phone.session.limits.interim_s or 0
            await v.gateway.skip(v.phone, 2 * interim_s)
            last_s = 2 * interim_s
            shown = await v.usage(
                serial, lambda shown: last_s <= shown["seconds_used"] <= last_s + 3
            )
            assert shown["seconds_left"] == 1800 - shown["seconds_used"]
            await v.gateway.skip(v.phone, 3600)
            assert not v.phone.is_online and v.phone.last_end == "time"
            shown = await v.usage(serial, lambda shown: shown["seconds_used"] == 1800)
            assert (shown["seconds_left"], shown["state"]) == (0, "used_up")
            page = await v.log_in(v.phone, code)
            assert "sudah habis" in page.words

    run(check)


def test_phone_comes_back_by_itself_after_a_nap_until_it_logs_out(node: Running) -> None:
    async def check() -> None:
        async with village(node) as v:
            code, serial = await v.card("harian")
            phone = v.phone
            await v.log_in(phone, code)
            assert await v.gateway.download(phone, 30_000_000) == 30_000_000
            await v.gateway.sleep_phone(phone)
            await v.usage(serial, lambda shown: shown["open_sessions"] == 0)

            assert await v.gateway.wake_phone(phone)
            assert phone.session is not None and phone.session.is_mac_return
            assert phone.session.limits.octets == 470_000_000
            await v.usage(serial, lambda shown: shown["open_sessions"] == 1)
            page = await get(f"http://127.0.0.1:{phone.port}/status")
            assert "470 MB" in page.words

            # The button on the status page, then the gateway's logoff.
            page = await send(page.forms[0])
            while phone.is_online and page.forms:
                page = await send(page.forms[0])
            assert not phone.is_online, page.url
            assert "sudah keluar" in page.words
            await v.usage(serial, lambda shown: shown["open_sessions"] == 0)
            await v.gateway.sleep_phone(phone)
            assert not await v.gateway.wake_phone(phone)

            page = await v.log_in(phone, code)
            assert "res=success" in page.url
            await v.gateway.sleep_phone(phone)
            assert await v.gateway.wake_phone(phone)

    run(check)


def test_card_moves_to_a_second_phone_and_the_first_is_cut_off(node: Running) -> None:
    async def check() -> None:
        async with village(node) as v:
            code, serial = await v.card("harian")
            first, second = v.gateway.phones[:2]
            await v.log_in(first, code)
            await v.gateway.download(first, 100_000_000)

            page = await v.log_in(second, code)
            assert "sedang dipakai di HP lain" in page.words and not second.is_online
            assert "Pindahkan ke HP ini" in page.words
            page = await send(page.forms[0])
            assert "res=success" in page.url, page.words
            await until(lambda: not first.is_online)
            assert first.last_end == "disconnect"
            shown = await v.usage(serial, lambda shown: shown["octets_used"] == 100_000_000)
            assert shown["open_sessions"] == 1
            await v.gateway.download(second, 1_000_000)
            await v.gateway.interim(second)
            await v.usage(serial, lambda shown: shown["octets_used"] == 101_000_000)
            # The first phone does not take the card back by itself.
            await v.gateway.sleep_phone(first)
            assert not await v.gateway.wake_phone(first)

    run(check)


def test_power_cut_loses_nothing_reported_and_locks_nobody_out(node: Running) -> None:
    async def check() -> None:
        async with village(node) as v:
            code, serial = await v.card("harian")
            phone = v.phone
            await v.log_in(phone, code)
            await v.gateway.download(phone, 50_000_000)
            await v.gateway.interim(phone)
            await v.gateway.download(phone, 3_000_000)  # never reported
            await v.gateway.power_cut()
            await v.usage(
                serial,
                lambda shown: (shown["octets_used"], shown["open_sessions"]) == (50_000_000, 0),
            )
            assert await v.gateway.wake_phone(phone)
            assert phone.session is not None and phone.session.limits.octets == 450_000_000

    run(check)


def test_session_is_cut_from_the_command_line(node: Running) -> None:
    async def check() -> None:
        async with village(node) as v:
            code, serial = await v.card("harian")
            await v.log_in(v.phone, code)
            await v.gateway.download(v.phone, 5_000_000)
            await v.gateway.settled()
            (session,) = await v.pesisir("session", "list", "--open", "--serial", serial)
            assert session["framed_ip"] == v.phone.ip and session["ended_at"] is None
            outcome = await v.pesisir("session", "disconnect", str(session["id"]))
            assert "ack" in str(outcome)
            assert not v.phone.is_online and v.phone.last_end == "disconnect"
            await v.usage(
                serial,
                lambda shown: (shown["octets_used"], shown["open_sessions"]) == (5_000_000, 0),
            )

    run(check)


def test_card_revoked_on_the_way_gives_its_own_sentence(node: Running) -> None:
    async def check() -> None:
        async with village(node) as v:
            code, serial = await v.card("harian")
            page = await v.open_internet(v.phone)
            page = await send(page.forms[0], follow=False, kode=code)
            assert page.status == 303
            await v.pesisir("voucher", "revoke", serial, "--reason", "hilang")
            page = await get(page.headers["location"])
            assert not v.phone.is_online
            assert "sudah dibatalkan" in page.words

    run(check)


def test_revoking_a_card_cuts_its_phone_off(node: Running) -> None:
    async def check() -> None:
        async with village(node) as v:
            code, serial = await v.card("harian")
            await v.log_in(v.phone, code)
            await v.gateway.settled()
            await v.pesisir("voucher", "revoke", serial, "--reason", "hilang")
            await until(lambda: not v.phone.is_online)
            assert v.phone.last_end == "disconnect"
            await v.gateway.sleep_phone(v.phone)
            assert not await v.gateway.wake_phone(v.phone)

    run(check)


def test_page_open_too_long_gets_in_with_a_fresh_challenge(node: Running) -> None:
    async def check() -> None:
        async with village(node) as v:
            code, _ = await v.card("harian")
            page = await v.open_internet(v.phone)
            await v.gateway.logoff(v.phone)  # another window: the form's challenge is stale now
            page = await send(page.forms[0], kode=code)
            assert "res=success" in page.url and v.phone.is_online, page.words

    run(check)


def test_radius_that_never_answers_is_not_blamed_on_the_card(node: Running) -> None:
    async def check() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
            mute.bind(("127.0.0.1", 0))
            nobody = mute.getsockname()
            async with village(node, radius_auth=nobody, retry_s=(0.1, 0.1)) as v:
                code, serial = await v.card("harian")
                page = await v.log_in(v.phone, code)
                assert "res=failed" in page.url and "reason=timeout" in page.url
                assert "Kartu Anda tidak salah" in page.words
                assert not v.phone.is_online
                await v.usage(serial, lambda shown: shown["state"] == "unused")

    run(check)


async def until(is_true: Callable[[], bool], within_s: float = 60) -> None:
    """Wait for something another process does."""
    async with asyncio.timeout(within_s):
        while not is_true():  # noqa: ASYNC110  nothing to be told by
            await asyncio.sleep(0.02)
