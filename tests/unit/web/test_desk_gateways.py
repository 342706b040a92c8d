"""Gateways at the desk: seen, added, changed, removed; their configurations shown and sent."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from portal import gateway_config
from radius.nas import family_names
from tests.unit.web.counter_gateway import CounterGateway
from tests.unit.web.desk import Desk, Person, desk
from tests.unit.web.village import Page

HOME = "/operator/gateways"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as found:
        yield found


def added(place: Desk, name: str = "balai-desa", family: str = "coova") -> Person:
    """An admin who has just added a gateway, at its page."""
    kepala = place.enter("kepala")
    page = kepala.get(HOME)
    page = kepala.submit(page, action=HOME, name=name, family=family, address="10.8.0.2")
    assert page.url.endswith(f"/{name}") or f"/{name}?" in page.url, page.text[:400]
    return kepala


def test_a_gateway_is_added_and_its_secrets_are_made(place: Desk) -> None:
    kepala = added(place)
    page = kepala.get(f"{HOME}/balai-desa")
    assert "Gateway balai-desa" in page.text and "10.8.0.2" in page.text
    gateway = place.call(lambda: place.node.admin.gateway("balai-desa"))
    assert len(gateway.secret) >= 22 and len(gateway.uam_secret or "") >= 22
    assert gateway.secret not in page.html
    assert gateway.guest_net is not None and gateway.guest_net in page.text
    deed = place.last_deed()
    assert (deed["action"], deed["operator"], deed["object"]) == (
        "gateway.add",
        "kepala",
        "balai-desa",
    )
    assert "balai-desa" in kepala.get(HOME).text


def test_a_gateway_that_reports_is_heard(place: Desk) -> None:
    (card,) = place.do(place.node.vouchers.issue("harian", site="TANJUNG"))["vouchers"]
    gateway = CounterGateway.at(place, "pos-satu", "127.0.1.9", site="TANJUNG")
    gateway.start("satu", card["serial"], "02a1b2c3d4e5", octets=1_000)
    kepala = place.enter("kepala")
    assert "Terdengar hari ini" in kepala.get(f"{HOME}/pos-satu").text
    added(place)
    assert "Sedang ditunggu" in kepala.get(f"{HOME}/balai-desa").text


@pytest.mark.parametrize(
    ("typed", "said", "field"),
    [
        ({"name": "a b"}, "tidak cocok", "name"),
        ({"name": "balai-desa"}, "sudah ada", "name"),
        ({"address": "10.8.0.300"}, "10.8.0.300", "address"),
        ({"address": "10.8.0.2"}, "NAS-Identifier", "nas_id"),
        ({"guest_net": "8.8.8.0/24"}, "8.8.8.0/24", "guest_net"),
        ({"guest_net": "10.64.0.0/16"}, "bertindihan", "guest_net"),
        ({"family": "merek"}, "merek", "family"),
    ],
)
def test_what_does_not_fit_is_said_beside_its_field(
    place: Desk, typed: dict[str, Any], said: str, field: str
) -> None:
    kepala = added(place)
    fields: dict[str, Any] = {"name": "pos-2", "family": "coova", "address": "10.8.0.9", **typed}
    page = kepala.submit(kepala.get(HOME), action=HOME, **fields)
    assert page.status == 400 and said in page.text
    assert f'name="{field}"' in page.html
    before = page.html.partition(" aria-invalid")[0].rpartition("<")[2]
    assert f'name="{field}"' in before
    assert len(place.node.admin.gateways_by_id) == 1


def test_only_what_was_changed_is_changed(place: Desk) -> None:
    kepala = added(place)
    page = kepala.get(f"{HOME}/balai-desa")
    changes: dict[str, Any] = {
        "mac_auth": "no",
        "nas_id": "balai",
        "swap_octets": "yes",
        "reason": "uji coba",
    }
    page = kepala.submit(page, **changes)
    assert "diubah" in page.text
    gateway = place.call(lambda: place.node.admin.gateway("balai-desa"))
    assert (gateway.mac_auth, gateway.nas_id, gateway.swap_octets) == (False, "balai", "yes")
    deed = place.last_deed()
    assert (deed["action"], deed["reason"]) == ("gateway.set", "uji coba")
    assert "nas_id: - -> balai" in deed["details"]
    page = kepala.submit(kepala.get(f"{HOME}/balai-desa"), nas_id="", reason="uji coba")
    assert place.call(lambda: place.node.admin.gateway("balai-desa")).nas_id is None


def test_what_somebody_else_changed_meanwhile_is_not_overwritten(place: Desk) -> None:
    kepala = added(place)
    page = kepala.get(f"{HOME}/balai-desa")
    place.do(place.node.admin.set_gateway("balai-desa", {"address": "10.8.0.7"}))
    refused = kepala.submit(page, address="10.8.0.8", reason="uji coba")
    assert refused.status == 400 and "Orang lain" in refused.text
    untouched = kepala.submit(page, nas_id="balai", reason="uji coba")
    assert "diubah" in untouched.text
    assert place.call(lambda: place.node.admin.gateway("balai-desa")).address == "10.8.0.7"


def test_a_change_needs_something_to_change_and_a_reason(place: Desk) -> None:
    kepala = added(place)
    page = kepala.get(f"{HOME}/balai-desa")
    assert "Tidak ada yang diubah" in kepala.submit(page, reason="uji").text
    assert "Tulis alasannya" in kepala.submit(page, mac_auth="no", reason=" ").text
    assert "Alasan terlalu panjang" in kepala.submit(page, mac_auth="no", reason="x" * 250).text


def test_new_secrets_are_made_and_never_shown_in_the_audit(place: Desk) -> None:
    kepala = added(place)
    before = place.call(lambda: place.node.admin.gateway("balai-desa"))
    page = kepala.get(f"{HOME}/balai-desa")
    page = kepala.submit(page, ticked=[("new_secrets", "yes")], reason="HP teknisi hilang")
    assert "Rahasia balai-desa diganti" in page.text
    after = place.call(lambda: place.node.admin.gateway("balai-desa"))
    assert after.secret != before.secret and after.uam_secret != before.uam_secret
    assert len(after.secret) >= 22
    deed = place.last_deed()
    assert deed["details"] == "secret: changed; uam_secret: changed"


def test_a_configuration_shows_no_secret_until_it_is_asked_for(place: Desk) -> None:
    kepala = added(place, family="mikrotik")
    gateway = place.call(lambda: place.node.admin.gateway("balai-desa"))
    page = kepala.get(f"{HOME}/balai-desa/config")
    assert gateway.secret not in page.html and "mikrotik-login.html" in page.text
    assert place.last_deed()["action"] == "gateway.add"
    shown = file(kepala, page, "show", "mikrotik.rsc", version="6", guest_if="br-tamu")
    assert f'secret="{gateway.secret}"' in text_of(shown)
    assert "RouterOS 6.48 to 6.49" in text_of(shown) and 'name="br-tamu"' in text_of(shown)
    assert "<option selected>6</option>" in shown.html
    deed = place.last_deed()
    assert (deed["action"], deed["object"], deed["details"]) == (
        "gateway.config",
        "balai-desa",
        "mikrotik.rsc",
    )
    assert shown.headers["cache-control"] == "no-store"


def file(person: Person, page: Page, button: str, name: str, **typed: Any) -> Page:
    """Show or save a file of a configuration from the form of this page."""
    return person.submit(page, ticked=[(button, name)], **typed)


def text_of(page: Page) -> str:
    """The configuration on a page, as a browser copies it."""
    return unescape(page.html.partition('spellcheck="false">\n')[2].partition("</textarea>")[0])


def test_a_file_is_sent_as_it_is_shown(place: Desk) -> None:
    kepala = added(place, family="uspot")
    page = kepala.get(f"{HOME}/balai-desa/config")
    shown = file(kepala, page, "show", "uspot.sh")
    sent = file(kepala, page, "save", "uspot.sh")
    assert sent.headers["content-disposition"] == 'attachment; filename="uspot.sh"'
    assert sent.headers["content-type"] == "text/plain; charset=utf-8"
    assert sent.headers["cache-control"] == "no-store"
    assert sent.body.decode() == text_of(shown)
    assert sent.body.startswith(b"#!/bin/sh\n")


@pytest.mark.parametrize("family", family_names())
def test_every_file_is_shown_on_a_light_page_or_only_sent(place: Desk, family: str) -> None:
    kepala = added(place, family=family)
    page = kepala.get(f"{HOME}/balai-desa/config")
    names = re.findall(r'name="show" value="([^"]+)"', page.html)
    assert names == [one.file for one in gateway_config.files(family)]
    for name in names:
        shown = file(kepala, page, "show", name)
        assert len(shown.body) <= 30_000, name
        assert shown.status == 200 or "Unduh saja" in shown.text
        sent = file(kepala, page, "save", name).body.decode()
        assert sent == text_of(shown) or shown.status == 400


def test_options_that_do_not_fit_are_said(place: Desk) -> None:
    kepala = added(place)
    page = kepala.get(f"{HOME}/balai-desa/config")
    page = file(kepala, page, "show", "coova.conf", radius_host="kantor", portal_url="")
    assert page.status == 400 and "kantor" in page.text
    assert place.last_deed()["action"] == "gateway.add"
    assert "<details open>" in page.html


def test_a_file_that_there_is_not_is_not_sent(place: Desk) -> None:
    kepala = added(place)
    page = kepala.get(f"{HOME}/balai-desa/config")
    for name in ("../../etc/passwd", "mikrotik.rsc", ""):
        sent = file(kepala, page, "save", name)
        assert sent.status == 200 and "content-disposition" not in sent.headers
    assert place.last_deed()["action"] == "gateway.add"


def test_a_gateway_is_removed_once_its_name_is_typed(place: Desk) -> None:
    kepala = added(place)
    page = kepala.get(f"{HOME}/balai-desa/remove")
    wrong = kepala.submit(page, confirm="balai", reason="pindah")
    assert wrong.status == 400 and "Ketik balai-desa" in wrong.text
    gone = kepala.submit(page, confirm="Balai-Desa ", reason="pindah")
    assert "Gateway balai-desa dihapus" in gone.text
    assert kepala.get(f"{HOME}/balai-desa").status == 404
    assert place.last_deed()["action"] == "gateway.remove"


def test_open_services_are_kept_and_no_probe_is_among_them(place: Desk) -> None:
    kepala = place.enter("kepala")
    form = f"{HOME}/services"
    page = kepala.submit(
        kepala.get(HOME),
        action=form,
        open_services="https-saja.example, 10.9.0.5:8443\nlayanan.desa.id",
        reason="layanan desa",
    )
    assert "Layanan terbuka disimpan" in page.text
    site = place.call(lambda: place.node.admin.site("TANJUNG"))
    assert site.open_services == "https-saja.example 10.9.0.5:8443 layanan.desa.id"
    for typed, said in (
        ("captive.apple.com", "tidak boleh dibuka"),
        ("www.google.com", "tidak boleh dibuka"),
        ("http://layanan.desa.id/", "tidak cocok"),
        ("layanan", "tidak cocok"),
        (" ".join(f"s{number}.example" for number in range(13)), "Paling banyak 12"),
    ):
        page = kepala.submit(kepala.get(HOME), action=form, open_services=typed, reason="x")
        assert page.status == 400 and said in page.text
        assert typed in page.text
    added(place)
    page = file(kepala, kepala.get(f"{HOME}/balai-desa/config"), "show", "coova.conf")
    assert 'uamallowed  "10.9.0.5:8443"' in text_of(page)


def test_a_router_that_counts_no_data_says_so(place: Desk) -> None:
    kepala = added(place, family="uspot")
    assert "tidak menghitung data" in kepala.get(f"{HOME}/balai-desa").text


def test_gateways_of_another_site_are_in_its_list(place: Desk) -> None:
    added(place, "pos-uji")
    kepala = place.enter("kepala")
    assert "pos-uji" not in kepala.get(f"{HOME}?site=WAISAI").text
    assert "pos-uji" in kepala.get(f"{HOME}?site=TANJUNG").text


def test_gateways_are_for_admins(place: Desk) -> None:
    added(place)
    for name in ("sari", "tinjau"):
        person = place.enter(name)
        for path in (HOME, f"{HOME}/balai-desa", f"{HOME}/balai-desa/config"):
            assert person.request("GET", path).status == 403
