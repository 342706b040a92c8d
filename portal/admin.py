"""Sites, gateways and profiles: kept in memory for the hot path, changed by people.

A change is written first and then taken into memory; the RADIUS server sees it at the next packet.
"""

import asyncio
import functools
import ipaddress
import json
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Concatenate, ParamSpec, TypeVar
from zoneinfo import ZoneInfo

from portal import guest_networks, place_values
from portal.audit import COMMAND_LINE
from portal.domain.hours import is_open, parse_hours
from portal.domain.profile import Profile, change, settings
from portal.errors import DeskError, UserError
from portal.store.audit import Deed
from portal.store.db import Row
from portal.store.node import NodeStore
from radius.clients import Client
from radius.nas import Family, family, family_names
from radius.packet import Packet

SECRET_OCTETS = 18
"""Random octets of a generated secret: 24 characters, over the 22 that conformance item 31 asks."""
SECRET_SHORTEST = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_SITE_CODE = re.compile(r"[A-Z0-9][A-Z0-9-]{0,15}")


@lru_cache(maxsize=64)
def _hours(text: str) -> str | None:
    """`text` in the form of domain.hours, None for nothing and for words."""
    try:
        return parse_hours(text) if text else None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Site:
    """A village hotspot."""

    id: int
    code: str
    name: str
    zone: str
    helper: str = ""
    """Who helps and how to reach them, as residents read it."""
    power_window: str = ""
    """When there is electricity, in the form of domain.hours; an old database may still have words.
    Empty: always."""
    wifi_name: str = ""
    """The network's name as phones list it; empty where it is the site's name."""
    counter: str = ""
    """Where cards are given, in words."""
    opening_hours: str = ""
    """When cards are given there, in the form of domain.hours."""
    open_services: str = ""
    """What phones may use before they log in, in the form of walled_garden.services."""
    without_node: str = "closed"
    """What phones get while the node is away: `closed`, or `open` where the gateway can do it."""

    @property
    def power_hours(self) -> str | None:
        """The power window in the form of domain.hours; None: always, or words that only people
        understand."""
        return _hours(self.power_window)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A NAS we know."""

    id: int
    site_id: int
    name: str
    family: str
    address: str
    """One address or a network in CIDR form."""
    nas_id: str | None
    secret: str
    uam_secret: str | None
    mac_auth: bool
    login_base: str | None
    """Where phones start a login there, as the gateway's own redirects said last."""
    sends_gigawords: bool
    swap_octets: str = "auto"
    """Upload and download are the wrong way round in its accounting: `yes`, `no`, or `auto`: as
    its family reads from its packets."""
    guest_net: str | None = None
    """The network of its phones, in CIDR form; None: none was chosen yet."""

    def is_swapped(self, family: Family, packet: Packet) -> bool:
        """Whether this accounting packet calls upload Output and download Input."""
        if self.swap_octets == "auto":
            return family.is_swapped(packet)
        return self.swap_octets == "yes"


def _site(row: Row) -> Site:
    return Site(**dict(row))


def _gateway(row: Row) -> Gateway:
    columns = dict(row)
    columns["mac_auth"] = bool(columns["mac_auth"])
    columns["sends_gigawords"] = bool(columns["sends_gigawords"])
    return Gateway(**columns)


P = ParamSpec("P")
R = TypeVar("R")


def _one_at_a_time(
    change: Callable[Concatenate["Admin", P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate["Admin", P], Coroutine[Any, Any, R]]:
    """Two people's changes at once: the second looks again once the first is written."""

    @functools.wraps(change)
    async def alone(self: "Admin", /, *args: P.args, **kwargs: P.kwargs) -> R:
        async with self.lock:
            return await change(self, *args, **kwargs)

    return alone


class Admin:
    """The node's sites, gateways and profiles."""

    def __init__(
        self, store: NodeStore, *, random_token: Callable[[int], str], now: Callable[[], int]
    ):
        self.lock = asyncio.Lock()
        self._store = store
        self._random_token = random_token
        self._now = now
        self._on_change: Callable[[], None] = lambda: None
        self._on_profile: Callable[[Profile | None, Profile], None] = lambda old, new: None
        self.sites_by_id: dict[int, Site] = {row["id"]: _site(row) for row in store.sites()}
        self.gateways_by_id: dict[int, Gateway] = {
            row["id"]: _gateway(row) for row in store.gateways()
        }
        self._removed_names: dict[int, str] = {
            row["id"]: row["name"] for row in store.removed_gateways()
        }
        self.profiles_by_name: dict[str, Profile] = {
            row["name"]: Profile(row["name"], **json.loads(row["limits"]))
            for row in store.profiles()
        }
        self._zones: dict[str, ZoneInfo] = {}
        self.families: dict[str, Family] = {name: family(name) for name in family_names()}

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` after gateways changed."""
        self._on_change = callback

    def on_profile(self, callback: Callable[[Profile | None, Profile], None]) -> None:
        """Call `callback` with the old and the new profile after one changed."""
        self._on_profile = callback

    # -- reading ---------------------------------------------------------------------------

    def zone(self, site_id: int) -> ZoneInfo:
        """The zone in which a site's days are cut."""
        name = self.sites_by_id[site_id].zone
        if name not in self._zones:
            self._zones[name] = ZoneInfo(name)
        return self._zones[name]

    def is_power_on(self, site_id: int, at: int) -> bool:
        """Whether the site has electricity at `at` by its power window: outside it silence is no
        fault."""
        hours = self.sites_by_id[site_id].power_hours
        return hours is None or is_open(hours, at, self.zone(site_id))

    def site(self, code: str) -> Site:
        """The site with this code; raises UserError when there is none."""
        for site in self.sites_by_id.values():
            if site.code == code.upper():
                return site
        known = ", ".join(site.code for site in self.sites_by_id.values())
        raise UserError(f"There is no site {code!r}; the sites here are {known}.")

    def only_site(self, code: str | None) -> Site:
        """The named site, or the node's only one; raises UserError when that is not clear."""
        if code is not None:
            return self.site(code)
        sites = list(self.sites_by_id.values())
        if len(sites) == 1:
            return sites[0]
        known = ", ".join(site.code for site in sites)
        raise UserError(f"This node has several sites; say which with --site, one of {known}.")

    def gateway(self, name: str) -> Gateway:
        """The gateway with this name; raises UserError when there is none."""
        for gateway in self.gateways_by_id.values():
            if gateway.name == name:
                return gateway
        known = ", ".join(gateway.name for gateway in self.gateways_by_id.values()) or "none yet"
        raise UserError(f"There is no gateway {name!r}; the gateways here are {known}.")

    def gateway_name(self, gateway_id: int) -> str | None:
        """The name of a gateway there is or was."""
        gateway = self.gateways_by_id.get(gateway_id)
        return self._removed_names.get(gateway_id) if gateway is None else gateway.name

    def gateway_of(self, nas_id: str | None, source: str | None) -> Gateway | None:
        """The gateway an unsigned arrival names, else the only one at this source address."""
        if nas_id:
            named = [g for g in self.gateways_by_id.values() if (g.nas_id or g.name) == nas_id]
            if len(named) == 1:
                return named[0]
        at_source = self.gateways_at(source)
        if len(at_source) == 1:
            return at_source[0]
        return None

    def gateways_at(self, source: str | None) -> list[Gateway]:
        """The gateways whose address or network holds `source`, the longest prefix only."""
        try:
            address = ipaddress.ip_address(source or "")
        except ValueError:
            return []
        best: list[Gateway] = []
        best_length = -1
        for gateway in self.gateways_by_id.values():
            network = ipaddress.ip_network(gateway.address)
            if address.version != network.version or address not in network:
                continue
            if network.prefixlen > best_length:
                best, best_length = [gateway], network.prefixlen
            elif network.prefixlen == best_length:
                best.append(gateway)
        return best

    def clients(self) -> list[Client]:
        """The gateways as the RADIUS server knows them."""
        return [
            Client(
                id=gateway.id,
                name=gateway.name,
                network=ipaddress.ip_network(gateway.address),
                secret=gateway.secret.encode(),
                nas_id=gateway.nas_id,
            )
            for gateway in self.gateways_by_id.values()
        ]

    def profile(self, name: str) -> Profile:
        """The profile with this name; raises UserError when there is none."""
        try:
            return self.profiles_by_name[name]
        except KeyError:
            known = ", ".join(self.profiles_by_name) or "none yet"
            raise UserError(
                f"There is no profile {name!r}; the profiles here are {known}."
            ) from None

    def sites_of_profile(self, name: str) -> set[int]:
        """The sites whose cards follow a profile."""
        return self._store.sites_of_profile(name)

    # -- sites -----------------------------------------------------------------------------

    @_one_at_a_time
    async def add_site(
        self, code: str, name: str, zone: str, *, by: str = COMMAND_LINE, reason: str = ""
    ) -> Site:
        """Add a site; raises UserError for a bad or known code, an empty name, an unknown zone."""
        code = code.upper()
        if not _SITE_CODE.fullmatch(code):
            raise UserError(
                f"The site code is {code!r}; expected 1 to 16 letters, digits and dashes."
            )
        if any(site.code == code for site in self.sites_by_id.values()):
            raise UserError(f"There is a site {code!r} already.")
        name = place_values.sentence("site name", name, 80)
        if not name:
            raise UserError("The site name is empty; expected what residents call the place.")
        place_values.check_zone(zone)
        deed = Deed(by, "site.add", None, code, reason, f"{name}, {zone}")
        site_id = await self._store.add_site(code, name, zone, at=self._now(), deed=deed)
        site = Site(site_id, code, name, zone)
        self.sites_by_id[site_id] = site
        return site

    @_one_at_a_time
    async def set_site(
        self,
        code: str,
        fields: Mapping[str, str],
        *,
        by: str = COMMAND_LINE,
        reason: str = "",
    ) -> Site:
        """Change a site's name, zone, helper, power window, Wi-Fi name, counter, opening hours."""
        site = self.site(code)
        changes: dict[str, str] = {}
        for field, value in fields.items():
            changes[field] = place_values.site_value(field, value)
        if changes.get("name") == "":
            raise UserError("The site name is empty; expected what residents call the place.")
        if "zone" in changes:
            place_values.check_zone(changes["zone"])
        before = asdict(site)
        changes = {field: value for field, value in changes.items() if value != before[field]}
        if changes:
            deed = Deed(
                by,
                "site.set",
                site.id,
                site.code,
                reason,
                place_values.differences(before, changes),
            )
            await self._store.set_site(site.id, changes, at=self._now(), deed=deed)
            columns: dict[str, Any] = dict(changes)
            site = replace(site, **columns)
            self.sites_by_id[site.id] = site
        return site

    # -- gateways --------------------------------------------------------------------------

    @_one_at_a_time
    async def add_gateway(
        self,
        name: str,
        *,
        family: str,
        address: str,
        site: str | None = None,
        nas_id: str | None = None,
        secret: str | None = None,
        uam_secret: str | None = None,
        mac_auth: bool = True,
        swap_octets: str = "auto",
        guest_net: str | None = None,
        by: str = COMMAND_LINE,
        reason: str = "",
    ) -> Gateway:
        """Add a gateway; secrets not given are generated, `uam_secret` "none" leaves it out, a
        guest network not given is one that no other gateway has."""
        if not _NAME.fullmatch(name):
            raise DeskError("gateways.name", name=name)
        if any(gateway.name == name for gateway in self.gateways_by_id.values()):
            raise DeskError("gateways.name_taken", name=name)
        columns: dict[str, Any] = {
            "site_id": self.only_site(site).id,
            "name": name,
            "family": self._family(family),
            "address": place_values.network(address),
            "nas_id": place_values.nas_id(nas_id),
            "secret": self._secret("secret", secret),
            "uam_secret": None if uam_secret == "none" else self._secret("uam-secret", uam_secret),
            "mac_auth": mac_auth,
            "swap_octets": place_values.swap_octets(swap_octets),
        }
        columns["guest_net"] = self._guest_net(None, guest_net, columns["address"])
        shared = self._neighbours(columns["address"])
        if secret is None and shared:
            columns["secret"] = shared[0].secret
        self._check_neighbours(columns, shared)
        details = f"{columns['family']} {columns['address']}"
        deed = Deed(by, "gateway.add", columns["site_id"], name, reason, details)
        gateway_id = await self._store.add_gateway(columns, at=self._now(), deed=deed)
        return self._take_gateway(
            Gateway(id=gateway_id, login_base=None, sends_gigawords=False, **columns)
        )

    @_one_at_a_time
    async def set_gateway(
        self,
        name: str,
        changes: Mapping[str, Any],
        *,
        by: str = COMMAND_LINE,
        reason: str = "",
    ) -> Gateway:
        """Change a gateway: family, address, site, nas_id, secret, uam_secret, mac_auth,
        swap_octets, guest_net; a secret that is None is made anew."""
        gateway = self.gateway(name)
        columns: dict[str, Any] = {}
        for field, value in changes.items():
            match field:
                case "family":
                    columns["family"] = self._family(value)
                case "address":
                    columns["address"] = place_values.network(value)
                case "site":
                    columns["site_id"] = self.site(value).id
                case "nas_id":
                    columns["nas_id"] = place_values.nas_id(None if value == "none" else value)
                case "secret":
                    columns["secret"] = self._secret("secret", value)
                case "uam_secret":
                    columns["uam_secret"] = (
                        None if value == "none" else self._secret("uam-secret", value)
                    )
                case "mac_auth":
                    columns["mac_auth"] = bool(value)
                case "guest_net":
                    columns["guest_net"] = self._guest_net(gateway.id, value, gateway.address)
                case "swap_octets":
                    columns["swap_octets"] = place_values.swap_octets(value)
                case _:
                    raise UserError(f"A gateway has no {field!r}.")
        if not columns:
            return gateway
        changed = replace(gateway, **columns)
        neighbours = [g for g in self._neighbours(changed.address) if g.id != gateway.id]
        self._check_neighbours(asdict(changed), neighbours)
        details = place_values.differences(asdict(gateway), columns)
        deed = Deed(by, "gateway.set", changed.site_id, name, reason, details)
        await self._store.set_gateway(gateway.id, columns, at=self._now(), deed=deed)
        return self._take_gateway(changed)

    @_one_at_a_time
    async def remove_gateway(self, name: str, *, by: str = COMMAND_LINE, reason: str = "") -> None:
        """Forget a gateway: its packets are unknown from the next on."""
        gateway = self.gateway(name)
        deed = Deed(by, "gateway.remove", gateway.site_id, name, reason)
        await self._store.remove_gateway(gateway.id, at=self._now(), deed=deed)
        del self.gateways_by_id[gateway.id]
        self._removed_names[gateway.id] = gateway.name
        self._on_change()

    async def show_config(self, name: str, file: str, *, by: str) -> None:
        """Record that somebody looked at a file of a gateway's configuration, secrets included."""
        gateway = self.gateway(name)
        deed = Deed(by, "gateway.config", gateway.site_id, name, details=file)
        await self._store.record(at=self._now(), deed=deed)

    def _take_gateway(self, gateway: Gateway) -> Gateway:
        self.gateways_by_id[gateway.id] = gateway
        self._on_change()
        return gateway

    def learn(
        self, gateway_id: int, *, sends_gigawords: bool | None = None, login_base: str | None = None
    ) -> bool:
        """Note what a gateway showed of itself; True when that is news to be written."""
        gateway = self.gateways_by_id.get(gateway_id)
        if gateway is None:
            return False
        learned = replace(
            gateway,
            sends_gigawords=gateway.sends_gigawords or bool(sends_gigawords),
            login_base=login_base or gateway.login_base,
        )
        if learned == gateway:
            return False
        self.gateways_by_id[gateway_id] = learned
        return True

    def _family(self, name: str) -> str:
        if name not in self.families:
            raise DeskError("gateways.family", family=name, known=", ".join(self.families))
        return name

    def guest_net(self, gateway: Gateway) -> str:
        """The network of a gateway's phones: the chosen one, else one that no other has."""
        return gateway.guest_net or self.guest_nets()[gateway.id]

    def guest_nets(self) -> dict[int, str]:
        """The networks of all gateways' phones; where none was chosen yet, one that is free."""
        gateways = list(self.gateways_by_id.values())
        nets = {one.id: one.guest_net for one in gateways if one.guest_net is not None}
        for one in gateways:
            if one.guest_net is None:
                places = [other.address for other in gateways]
                nets[one.id] = guest_networks.free([*nets.values(), *places])
        return nets

    def _guest_net(self, gateway_id: int | None, text: str | None, address: str) -> str:
        """`text` checked, or, for None, a network that overlaps nothing known here."""
        others = [
            (self.gateways_by_id[id].name, net)
            for id, net in self.guest_nets().items()
            if id != gateway_id
        ]
        if text is None:
            places = [gateway.address for gateway in self.gateways_by_id.values()]
            return guest_networks.free([*(net for _, net in others), *places, address])
        network = guest_networks.parse(text)
        guest_networks.check_free(network, others)
        return network

    def _secret(self, what: str, text: str | None) -> str:
        if text is None:
            return self._random_token(SECRET_OCTETS)
        if len(text) < SECRET_SHORTEST or len(text) > 128 or not text.isprintable():
            raise DeskError("gateways.secret", what=what, length=len(text), least=SECRET_SHORTEST)
        return text

    def _neighbours(self, address: str) -> list[Gateway]:
        return [g for g in self.gateways_by_id.values() if g.address == address]

    def _check_neighbours(self, columns: Mapping[str, Any], neighbours: list[Gateway]) -> None:
        """Several gateways at one address share a secret and are told apart by NAS-Identifier."""
        for other in neighbours:
            if other.secret != columns["secret"]:
                raise DeskError("gateways.other_secret", name=other.name, address=other.address)
            if columns["nas_id"] is None or other.nas_id is None:
                raise DeskError("gateways.needs_nas_id", name=other.name, address=other.address)
            if columns["nas_id"] == other.nas_id:
                raise DeskError(
                    "gateways.same_nas_id",
                    name=other.name,
                    address=other.address,
                    nas_id=other.nas_id,
                )

    # -- profiles --------------------------------------------------------------------------

    @_one_at_a_time
    async def set_profile(
        self,
        name: str,
        changes: Mapping[str, str],
        *,
        by: str = COMMAND_LINE,
        reason: str = "",
        site_id: int | None = None,
    ) -> Profile:
        """Add or change a profile from the command line's texts; cards follow at the next login.

        `site_id`: the site whose operators may read it in the audit; None: admins only.
        """
        if not _NAME.fullmatch(name):
            raise UserError(
                f"The profile name is {name!r}; expected letters, digits, dots, dashes."
            )
        old = self.profiles_by_name.get(name)
        try:
            profile = change(old or Profile(name), **changes)
        except ValueError as error:
            raise UserError(f"{place_values.capital(str(error))}.") from error
        if profile == old:
            return profile
        before, after = settings(old or Profile(name)), settings(profile)
        details = place_values.differences(
            before, {key: after[key] for key in after if after[key] != before[key]}
        )
        deed = Deed(by, "profile.set", site_id, name, reason, details)
        limits = json.dumps(place_values.limits_of(profile))
        await self._store.set_profile(name, limits, at=self._now(), deed=deed)
        self.profiles_by_name[name] = profile
        self._on_profile(old, profile)
        return profile

    @_one_at_a_time
    async def remove_profile(self, name: str, *, by: str = COMMAND_LINE, reason: str = "") -> None:
        """Remove a profile that no card follows."""
        self.profile(name)
        count = self._store.count_vouchers(name)
        if count:
            raise UserError(f"Profile {name!r} has {count} cards; it can be removed when none do.")
        deed = Deed(by, "profile.remove", None, name, reason)
        await self._store.remove_profile(name, at=self._now(), deed=deed)
        del self.profiles_by_name[name]
