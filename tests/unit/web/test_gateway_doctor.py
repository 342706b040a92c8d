"""The doctor's page at the desk: live without JavaScript, in both languages, for admins only."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_trace import hooks
from tests.unit.web.counter_gateway import CounterGateway
from tests.unit.web.desk import Desk, desk

PATH = "/operator/gateways/pos-1/doctor"


@pytest.fixture
def d(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as found:
        found.node.disconnects._sender._waits_s = (0.1, 0.1)
        yield found


def test_opening_the_page_begins_to_watch_and_the_link_looks_again(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    assert not any(hooks(d))
    kepala = d.sign_in("kepala")
    page = kepala.get(PATH)
    assert page.status == 200 and all(hooks(d))
    assert "Belum ada paket dari 127.0.0.21." in page.text
    assert "<script" not in page.html
    _, serial = d.issue(site="TANJUNG")
    d.pass_time(30)
    gateway.start("0a01", serial, "02-00-00-00-00-01", octets=9_000_000)
    page = kepala.click(page, "Lihat lagi")
    assert "Terakhir terdengar 0 detik lalu." in page.text
    assert "Diamati selama 30 detik." in page.text
    assert "1 HP online di gateway ini." in page.text
    assert "9 MB terhitung." in page.text


def test_a_fault_stands_with_its_fix_and_a_sign(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    _, serial = d.issue(site="TANJUNG")
    gateway.start("0a01", serial, "02-00-00-00-00-01")
    d.pass_time(520)
    page = d.sign_in("kepala").get(PATH)
    assert "Ada yang salah: 1." in page.text
    assert "■ Laporan berkala (salah)" in page.text
    assert "Perbaikan: Suruh router melapor menurut jawaban kami." in page.text
    page = d.enter("kepala").get(f"{PATH}?lang=en")
    assert "None for 8 minutes; every 5 minutes was asked for." in page.text


def test_disconnect_is_tested_by_the_page_that_asks_before(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    _, serial = d.issue(site="TANJUNG")
    gateway.start("0a01", serial, "02-00-00-00-00-01")
    kepala = d.sign_in("kepala")
    page = kepala.get(PATH)
    asking = kepala.click(page, f"Uji putus: {serial}")
    assert asking.url.endswith(f"/operator/online/{phone_session(d)}")
    kepala.submit(asking)
    page = kepala.get(PATH)
    assert f"{serial} berhenti." in page.text or "Menunggu" in page.text


def phone_session(d: Desk) -> int:
    live = d.call(lambda: d.node.sessions.of_mac("020000000001"))
    return live[0].session.id


def test_beginning_anew_is_a_button(d: Desk) -> None:
    CounterGateway.at(d, "pos-1", "127.0.0.21")
    kepala = d.sign_in("kepala")
    page = kepala.get(PATH)
    d.pass_time(60)
    assert "Diamati selama 1 menit." in kepala.get(PATH).text
    page = kepala.submit(page, action=PATH)
    assert page.status == 200 and "Diamati selama 0 detik." in page.text


def test_only_admins_and_only_gateways_there_are(d: Desk) -> None:
    CounterGateway.at(d, "pos-1", "127.0.0.21")
    for name in ("sari", "tinjau"):
        assert d.enter(name).get(PATH).status == 403
    assert not any(hooks(d))
    assert d.enter("kepala").get(PATH.replace("pos-1", "tidak-ada")).status == 404
