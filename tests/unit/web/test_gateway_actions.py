"""What gateways were asked, over real UDP: through a NAT, with answers from elsewhere, and the page
that lists it for the engineer."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from radius.packet import DISCONNECT_ACK, DISCONNECT_REQUEST
from tests.unit.web.counter_gateway import CounterGateway, reply_to
from tests.unit.web.desk import Desk, desk
from tests.unit.web.test_operator_online import LIST, cut, online, until

ACTIONS = "/operator/gateways/pos-1/actions"


class BehindNat(CounterGateway):
    """Its NAT lets in only what comes from where its own accounting went."""

    refused: int = 0

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        if tuple(addr[:2]) != tuple(self._village.service.radius.acct_addresses[0][:2]):
            self.refused += 1
            return
        super().datagram_received(data, addr)


class FromElsewhere(CounterGateway):
    """Answers rightly, but from another address and from another port."""

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        if data[0] != DISCONNECT_REQUEST:
            super().datagram_received(data, addr)
            return
        self.asked.append(data)
        asyncio.get_running_loop().create_task(self._answer(data, addr))

    async def _answer(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        port = self._transport.get_extra_info("sockname")[1]
        for place in (("127.0.0.29", port), (self.address, 0)):
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=place
            )
            transport.sendto(reply_to(data, DISCONNECT_ACK, b""), addr)
            transport.close()


@pytest.fixture
def d(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as made:
        made.node.disconnects._sender._waits_s = (1.0, 1.0)
        yield made


def test_a_gateway_behind_a_nat_is_asked_through_the_socket_that_hears_it(d: Desk) -> None:
    gateway = BehindNat.at(d, "pos-1", "127.0.0.21")
    assert isinstance(gateway, BehindNat)
    online(d, gateway)
    sari = d.sign_in("sari")
    # The session's end comes by another socket than the answer, in either order.
    words = ("ya (ACK)", "Sudah putus")
    page = until(sari, cut(sari).url, lambda page: all(one in page.text for one in words))
    assert all(one in page.text for one in words)
    assert len(gateway.asked) == 1 and gateway.refused == 0


def test_an_answer_from_another_port_or_address_is_no_answer(d: Desk) -> None:
    gateway = FromElsewhere.at(d, "pos-1", "127.0.0.21")
    online(d, gateway)
    sari = d.sign_in("sari")
    page = until(sari, cut(sari).url, lambda page: "belum menjawab" in page.text)
    assert "Gateway belum menjawab. Sesi masih terbuka." in page.text
    assert gateway.asked != []


def test_the_engineer_sees_what_was_asked_why_and_what_came_of_it(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    gateway.stops_first = False
    kepala = d.sign_in("kepala")
    assert "Belum ada permintaan ke gateway ini." in kepala.get(ACTIONS).text
    first = online(d, gateway, "0a01")
    d.pass_time(1)
    second = online(d, gateway, "0a02")
    gateway.answer, gateway.error_cause = "nak", 504
    sari = d.sign_in("sari")
    cut(sari)  # the last one in the list, who is on for longest
    d.do(d.node.vouchers.revoke([second], "dicuri", by="sari"))
    page = until(kepala, ACTIONS, lambda page: page.text.count("(504)") == 2)
    assert "Putuskan: diminta petugas" in page.text and "sari" in page.text
    assert "Putuskan: kartu dibatalkan" in page.text and "alat sendiri" in page.text
    assert page.links[first] == f"/operator/cards/{first}"
    assert second in page.text
    assert "Jawaban gateway bukan bukti." in page.text


def test_only_those_who_set_gateways_see_it(d: Desk) -> None:
    CounterGateway.at(d, "pos-1", "127.0.0.21")
    for name in ("sari", "wayan", "tinjau"):
        assert d.enter(name).get(ACTIONS).status == 403, name
    kepala = d.enter("kepala")
    assert kepala.get("/operator/gateways/pos-9/actions").status == 404
    assert ACTIONS in kepala.get("/operator/gateways/pos-1").links.values()


def test_an_outcome_is_still_there_after_the_node_started_again(d: Desk) -> None:
    gateway = CounterGateway.at(d, "pos-1", "127.0.0.21")
    serial = online(d, gateway)
    sari = d.sign_in("sari")
    outcome = cut(sari)
    until(sari, outcome.url, lambda page: "Sudah putus" in page.text)

    def forget() -> None:
        # As a new start finds it.
        d.node.attempts.of_people.clear()
        d.node.attempts._newest.clear()

    d.do(d.node.commit.settle())
    d.call(forget)
    page = sari.get(outcome.url)
    assert f"Hasil memutus {serial}" in page.text and "ya (ACK)" in page.text
    assert "Sudah putus" in page.text and "oleh sari" in page.text
    assert sari.get(f"{LIST}/outcome/99").status == 404
