"""The practice gateway over HTTP: probes, hand-offs, and the page with the buttons."""

import json
import re

import pytest

from radius import packet as radius
from tests.unit.practice_world import (
    ON,
    PORTAL,
    fetch,
    hand_off,
    octets_limit,
    query_of,
    run,
    world,
)

# HTTP


@pytest.mark.parametrize(
    "path",
    [
        "/generate_204",
        "/gen_204",
        "/hotspot-detect.html",
        "/connecttest.txt",
        "/ncsi.txt",
        "/success.txt",
        "/anything/else",
    ],
)
def test_probe_of_an_offline_phone_is_redirected_with_a_body(path: str) -> None:
    async def check() -> None:
        async with world() as w:
            for host in (f"127.0.0.1:{w.gateway.port}", "connectivitycheck.gstatic.com"):
                url = f"http://127.0.0.1:{w.gateway.port}{path}"
                status, headers, body = await fetch(url, headers={"Host": host})
                assert status == 302
                assert headers["location"].startswith(f"{PORTAL}?res=notyet&")
                assert headers["cache-control"] == "no-store"
                assert len(body) > 4
                assert query_of(headers["location"])["userurl"] == f"http://{host}{path}"

    run(check)


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/generate_204", 204, ""),
        ("/connecttest.txt", 200, "Microsoft Connect Test"),
        ("/success.txt", 200, "success\n"),
    ],
)
def test_probe_of_an_online_phone_succeeds(path: str, status: int, body: str) -> None:
    async def check() -> None:
        async with world() as w:
            await w.logon()
            url = f"http://127.0.0.1:{w.phone.port}{path}"
            assert (await fetch(url))[::2] == (status, body)

    run(check)


def test_each_phone_is_told_apart_by_its_port() -> None:
    async def check() -> None:
        async with world() as w:
            second = w.gateway.phones[1]
            w.gateway.arrival_url(second)
            base = f"http://127.0.0.1:{second.port}"
            status, headers, _ = await fetch(f"{base}/logon?{hand_off(second, 'A017-24')}")
            answer = query_of(headers["location"])
            assert (status, answer["res"], answer["uamport"]) == (302, "success", str(second.port))
            assert second.session is not None and w.phone.session is None
            told = json.loads((await fetch(f"{base}/json/status"))[2])
            assert (told["clientState"], told["session"]["userName"]) == (1, "A017-24")
            script = (await fetch(f"{base}/json/status?callback=cb"))[2]
            assert script.startswith("cb({") and script.endswith("})")
            _, headers, _ = await fetch(f"{base}/logoff")
            assert query_of(headers["location"])["res"] == "logoff"
            for path in ("/prelogin", "/status"):
                _, headers, _ = await fetch(base + path)
                assert query_of(headers["location"])["res"] == "notyet"

    run(check)


def test_logon_without_credentials_is_a_bad_request() -> None:
    async def check() -> None:
        async with world() as w:
            url = f"http://127.0.0.1:{w.phone.port}/logon?username=x"
            status, _, body = await fetch(url)
            assert status == 400 and "expected one of them" in body

    run(check)


def test_page_plays_every_button_and_says_that_it_is_practice() -> None:
    async def check() -> None:
        async with world() as w:
            w.node.accept += octets_limit(50_000_000)
            w.node.accept += radius.integer_attribute(radius.SESSION_TIMEOUT, 7200)
            base = f"http://127.0.0.1:{w.gateway.port}"
            _, headers, page = await fetch(base + "/")
            assert "Hanya untuk latihan" in page and "<script" not in page
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "For practice and tests only" in (await fetch(base + "/?lang=en"))[2]
            assert f"http://127.0.0.1:{w.gateway.phones[2].port}/internet" in page
            await w.logon()
            pressed = set()
            for _ in range(12):
                _, _, page = await fetch(base + "/")
                buttons = re.findall(r'method="post" action="([^"]+)"', page)
                fresh = [b for b in buttons if b.startswith("/phone/1/") and b not in pressed]
                if not fresh:
                    break
                fresh.sort(key=lambda b: ("sleep" in b, "download-100" in b))
                pressed.add(fresh[0])
                status, headers, _ = await fetch(base + fresh[0], "POST")
                assert (status, headers["location"]) == (303, "/#hp-1"), fresh[0]
            assert {b.rsplit("/", 1)[1] for b in pressed} == {
                *("download-1", "download-10", "download-100", "upload-1"),
                *("skip", "interim", "sleep", "wake"),
            }
            assert w.phone.last_end == "quota"
            status, headers, _ = await fetch(base + "/gateway/power-cut?lang=en", "POST")
            assert (status, headers["location"]) == (303, "/?lang=en#gateway")
            _, _, page = await fetch(base + "/?lang=en")
            assert "data quota used up" in page and "Power lost" in page

    run(check)


def test_form_of_another_site_is_refused() -> None:
    async def check() -> None:
        async with world() as w:
            base = f"http://127.0.0.1:{w.gateway.port}"
            foreign = {"Sec-Fetch-Site": "cross-site"}
            for path in ("/gateway/power-cut", "/phone/1/wake"):
                assert (await fetch(base + path, "POST", foreign))[0] == 403
            assert len(w.node.packets(status=ON)) == 1
            assert (await fetch(base + "/phone/9/wake", "POST"))[0] == 404
            assert (await fetch(base + "/phone/1/fly", "POST"))[0] == 404
            assert (await fetch(base + "/phone/1/wake"))[0] == 302  # a GET changes nothing

    run(check)


def test_taken_port_is_an_error_and_leaves_nothing_open() -> None:
    async def check() -> None:
        async with world() as w:
            with pytest.raises(OSError):
                async with world(listen=("127.0.0.1", w.gateway.port)):
                    pass

    run(check)
