"""Arrivals: who is asking, through which gateway, and how far that can be believed.

What a redirect says is typed by whoever holds the phone. Only a fitting `md` proves that a gateway
wrote it, and then only that it did so once. So an unsigned arrival can show the form and hand off,
which gives nothing away, and never a status.
"""

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request

from portal.admin import Gateway
from portal.domain.voucher import is_well_formed, normalise
from portal.setting_values import Network
from radius.nas import Arrival, ArrivalError, Family, family, family_names

MAX_QUERY = 4_096
NEAR_BITS = 16
"""Leading bits of an address that a phone must share with its gateway: guest networks are no wider
than that."""


@dataclass(frozen=True, slots=True)
class Landing:
    """An arrival and the gateway it came through, as far as we know it."""

    arrival: Arrival
    gateway: Gateway | None
    is_signed: bool
    """The gateway's `md` fits; only then may the MAC be believed."""


def client_address(request: Request, trusted_proxies: Sequence[Network]) -> str:
    """Return the address a request comes from, in its usual form, '' when there is none.

    X-Forwarded-For is read from the right, and only past proxies that are trusted: what stands to
    the left of the first stranger is that stranger's invention.
    """
    address = _address(request.client.host if request.client else "")
    if address is None:
        return ""
    hops = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
    while hops and any(address in network for network in trusted_proxies):
        hop = _address(hops.pop().strip())
        if hop is None:
            break
        address = hop
    return str(address)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if isinstance(mapped, ipaddress.IPv4Address) else address


def query_of(raw_query: str) -> dict[str, str]:
    """Decode a query, the first value of each name; {} when it is absurdly long."""
    if len(raw_query) > MAX_QUERY:
        return {}
    try:
        pairs = parse_qsl(raw_query, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return {}
    query: dict[str, str] = {}
    for name, value in pairs:
        query.setdefault(name, value)
    return query


def known_family(name: str) -> Family | None:
    """The family of this name, None when this version has none."""
    return family(name) if name in family_names() else None


def nobody_vouches(gateway: Gateway, arrival: Arrival) -> bool:
    """False: only what is signed is believed."""
    return False


def land(
    query: Mapping[str, str],
    raw_query: str,
    urls: Sequence[str],
    source: str,
    gateways: Sequence[Gateway],
    gateway_of: Callable[[str | None, str], Gateway | None],
    vouches: Callable[[Gateway, Arrival], bool] = nobody_vouches,
) -> Landing | None:
    """Read a gateway's redirect; None when the query is none.

    The gateway is the one whose `md` fits, else the one with this NAS-Identifier, else the one at
    the source address; if that leaves it open, a gateway that is the only one of its family.
    `urls` are the addresses, without query, that the gateway may have been given for the portal.
    `vouches`: whether a gateway has told us otherwise that the arrival is true, which counts as its
    signature. Raises ArrivalError for a redirect that must not be followed.
    """
    has_loopback = any(_is_loopback(gateway.address) for gateway in gateways)
    readings: dict[str, Arrival] = {}
    error: ArrivalError | None = None
    for name in family_names():
        try:
            arrival = family(name).read_arrival(query, allow_loopback=has_loopback)
        except ArrivalError as refused:
            error = refused
            continue
        if arrival is not None:
            readings[name] = arrival
    if not readings:
        if error is not None:
            raise error
        return None

    speaking = [gateway for gateway in gateways if gateway.family in readings]
    signing = [
        gateway
        for gateway in speaking
        if gateway.uam_secret
        and (
            family(gateway.family).is_signed(urls, raw_query, gateway.uam_secret)
            or vouches(gateway, readings[gateway.family])
        )
    ]
    found = _choose(signing or speaking, readings, source, gateway_of)
    if found is None and signing:
        found = signing[0]
    if found is None:
        return Landing(next(iter(readings.values())), None, False)
    arrival = readings[found.family]
    if _is_loopback(urlsplit(arrival.login_base).hostname or "") and not _is_loopback(
        found.address
    ):
        raise ArrivalError(
            f"the login address is {arrival.login_base}, expected a private address: gateway"
            f" {found.name} is at {found.address}"
        )
    return Landing(arrival, found, bool(signing))


def _choose(
    gateways: Sequence[Gateway],
    readings: Mapping[str, Arrival],
    source: str,
    gateway_of: Callable[[str | None, str], Gateway | None],
) -> Gateway | None:
    ids = {gateway.id for gateway in gateways}
    for arrival in readings.values():
        gateway = gateway_of(arrival.nas_id, source)
        if gateway is not None and gateway.id in ids:
            return gateway
    if len(gateways) == 1:
        only = gateways[0]
        said = readings[only.family].nas_id
        if only.nas_id is None or said is None or only.nas_id == said:
            return only
    return None


def _is_loopback(network: str) -> bool:
    try:
        return ipaddress.ip_network(network, strict=False).is_loopback
    except ValueError:
        return False


def nearest_gateway(source: str, gateways: Sequence[Gateway]) -> Gateway | None:
    """The gateway a phone that came without an arrival stands behind, None when it cannot be told.

    That is the gateway at the source address itself (it hides its phones), else the one whose login
    address lies in the phone's own network; two that are equally near are none.
    """
    address = _address(source)
    if address is None:
        return None
    able = [gateway for gateway in gateways if gateway.login_base is not None]
    hiding = [gateway for gateway in able if _holds(gateway.address, address)]
    if len(hiding) == 1:
        return hiding[0]
    near = sorted(
        (
            (_shared_bits(address, urlsplit(gateway.login_base or "").hostname or ""), gateway.id)
            for gateway in able
        ),
        reverse=True,
    )
    if not near or near[0][0] < NEAR_BITS or (len(near) > 1 and near[1][0] == near[0][0]):
        return None
    return next(gateway for gateway in able if gateway.id == near[0][1])


def _holds(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _shared_bits(address: ipaddress.IPv4Address | ipaddress.IPv6Address, host: str) -> int:
    other = _address(host)
    if other is None or other.version != address.version:
        return 0
    return address.max_prefixlen - (int(address) ^ int(other)).bit_length()


@dataclass(frozen=True, slots=True)
class Return:
    """What an address of our own, brought back by a gateway as `userurl`, tells us."""

    code: str | None = None
    """A well-formed code: fills in the form, no more."""
    link: str | None = None
    nonce: str | None = None
    wishes: Mapping[str, str] | None = None
    """Language and letter size the resident had chosen."""


NOTHING_RETURNED = Return()


def read_return(return_url: str | None, origins: Sequence[str]) -> Return:
    """Read a `userurl` under one of our `origins`; any other address says nothing to us."""
    if return_url is None:
        return NOTHING_RETURNED
    try:
        parts = urlsplit(return_url)
    except ValueError:
        return NOTHING_RETURNED
    if f"{parts.scheme}://{parts.netloc}".lower() not in {origin.lower() for origin in origins}:
        return NOTHING_RETURNED
    query = query_of(parts.query)
    return Return(
        code=code_in_path(parts.path),
        link=query.get("k"),
        nonce=query.get("n"),
        wishes={name: query[name] for name in ("lang", "huruf") if name in query},
    )


def code_in_path(path: str) -> str | None:
    """The well-formed code of `/482917305515` or `/v/482917305515`, None for any other path."""
    last = path.removeprefix("/v/") if path.startswith("/v/") else path.removeprefix("/")
    if "/" in last or len(last) > 64:
        return None
    code = normalise(last)
    return code if code is not None and is_well_formed(code) else None
