"""A desk with something of everything at both sites, and an address for every page.

The tests that go through all pages of the desk (permissions, browser) find their addresses here. A
page with a new placeholder in its path needs a line in `Samples`.
"""

import re
from dataclasses import dataclass
from typing import Any

from tests.unit.web.counter_gateway import CounterGateway
from tests.unit.web.desk import Desk, add_operator

SITES = ("TANJUNG", "WAISAI")
LONG_WORDS = "Kata yang panjang sekali supaya terlihat apakah halaman masih muat di HP kecil"


@dataclass
class Samples:
    """What belongs to one site, by the placeholders of the paths."""

    site: str
    serial: str
    """A card in use."""
    unused: str
    given: str
    batch: str
    session: int
    outcome: int
    complaint: str
    announcement: int
    known_device: int
    mac: str
    job: str
    marks: tuple[str, ...]
    """Words that nobody of another site may read."""

    def path(self, pattern: str) -> str | None:
        """The address of a page; None for one that has no object of a site in it."""
        values: dict[str, Any] = {
            "serial": self.serial,
            "batch": self.batch,
            "session_id": self.session,
            "mac": self.mac,
            "job": self.job,
            "gateway": f"pos-{self.site.lower()}",
            "kind": "58mm.png",
            "paper": "a4.pdf",
        }
        if pattern.startswith("/operator/give/"):
            values["serial"] = self.given
        if "/ticket" in pattern:
            values["serial"] = self.unused
        if pattern.startswith("/operator/online/outcome/"):
            values["number"] = self.outcome
        if pattern.startswith("/operator/complaints/"):
            values["number"] = self.complaint
        if pattern.startswith("/operator/announcements/"):
            values["id"] = self.announcement
        if pattern.startswith("/operator/devices/known/"):
            values["id"] = self.known_device
        if pattern.startswith("/operator/people/"):
            values["name"] = f"murid-{self.site.lower()}"
        if pattern.startswith("/operator/site/profile/"):
            values["name"] = "harian"

        def value(match: re.Match[str]) -> str:
            name = match[1]
            assert name in values, f"{pattern}: no sample for {{{name}}}; add one to {__name__}"
            return str(values[name])

        path = re.sub(r"\{([a-z_]+)(?::[a-z]+)?\}", value, pattern)
        return f"{path}?session={self.session}" if pattern.endswith("/block") else path

    @staticmethod
    def is_of_a_site(pattern: str) -> bool:
        """Whether the page shows one thing that belongs to a site."""
        node_wide = ("/operator/people/", "/operator/poster/", "/operator/site/profile/")
        return "{" in pattern and not pattern.startswith(node_wide)


def fill(place: Desk) -> dict[str, Samples]:
    """Put something of everything at every site."""
    return {site: _fill(place, site, number) for number, site in enumerate(SITES)}


def _fill(place: Desk, site: str, number: int) -> Samples:
    node = place.node
    site_id = node.admin.site(site).id
    batch = place.do(
        node.vouchers.issue("harian", count=6, site=site, note=f"catatan {site} {LONG_WORDS}")
    )
    serial, other = batch["vouchers"][0]["serial"], batch["vouchers"][1]["serial"]
    given = place.do(node.vouchers.give("harian", site=site, by=f"petugas-{site.lower()}"))
    gateway = CounterGateway.at(place, f"pos-{site.lower()}", f"127.0.1.{number + 1}", site=site)
    mac = f"02a1b2c3d4{number:02x}"
    gateway.start(f"pertama-{site}", serial, mac, octets=123_000_000)
    gateway.start(f"kedua-{site}", other, f"02a1b2c3d5{number:02x}", octets=1_000)
    live = place.call(lambda: node.sessions.of_mac(f"02a1b2c3d5{number:02x}")[0])
    place.do(node.online.disconnect(live.session.id, by=f"petugas-{site.lower()}"))
    session = place.call(lambda: node.sessions.of_mac(mac)[0].session.id)
    outcome = place.call(lambda: node.disconnects.outcomes[-1].number)
    complaint = place.do(
        node.complaints.add(
            site_id,
            category="slow",
            words=f"keluhan {site} {LONG_WORDS}",
            contact=f"hubungi-{site}",
            serial=serial,
            client=None,
            source="10.1.0.9",
        )
    )
    announcement = place.do(
        node.notices.add(
            site_id, f"pengumuman {site} {LONG_WORDS}", starts_at=None, ends_at=None, by="kepala"
        )
    )
    known_mac, blocked_mac = f"02a1b2c3e0{number:02x}", f"02a1b2c3f0{number:02x}"
    place.do(node.devices.add_known(f"absen-{site}", known_mac, "harian", "office", 3_600, site))
    place.do(node.devices.block(blocked_mac, site_id, f"alasan {site}", "kepala"))
    row = place.call(
        lambda: node.store.database.all(
            "SELECT id FROM known_device WHERE site_id = ? ORDER BY id", (site_id,)
        )[0]
    )
    place.do(add_operator(node.operators, f"murid-{site.lower()}", "operator", site))
    job = _job(place, site)
    return Samples(
        site=site,
        serial=serial,
        unused=batch["vouchers"][2]["serial"],
        given=given["serial"],
        batch=batch["batch"],
        session=session,
        outcome=outcome,
        complaint=complaint.number,
        announcement=announcement.id,
        known_device=row["id"],
        mac=blocked_mac,
        job=job,
        marks=(
            batch["batch"],
            f"catatan {site}",
            f"keluhan {site}",
            f"hubungi-{site}",
            f"pengumuman {site}",
            f"absen-{site}",
            f"alasan {site}",
            f"pos-{site.lower()}",
            f"petugas-{site.lower()}",
        ),
    )


def _job(place: Desk, site: str) -> str:
    """A sheet that is being printed, as the desk's form begins it."""
    kepala = place.enter("kepala")
    page = kepala.get(f"/operator/sheets?site={site}")
    page = kepala.submit(page, count="2", note=f"catatan {site}")
    found = re.search(r"/operator/sheets/job/([^/?]+)", page.url)
    assert found is not None, page.text[:500]
    return found[1]
