"""What the value of a setting may look like: text or TOML to a type, or `BadValue`.

Pure: nothing here reads a file, opens a socket or looks up a name.
"""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from portal.domain.profile import parse_duration_s

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Listen:
    """An address to listen on. `str()` gives it as it is written in the file."""

    host: str  # an IP address, without brackets
    port: int  # 0 lets the system choose a free one
    is_tls: bool = False

    @property
    def address(self) -> str:
        """Host and port without the scheme: "0.0.0.0:8080", "[::]:8080"."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return ("https://" if self.is_tls else "") + self.address


class BadValue(ValueError):
    """A value that does not fit; `seen` is the part at fault."""

    def __init__(self, seen: object) -> None:
        super().__init__()
        self.seen = seen


def text_of(raw: object) -> str:
    """Text without the spaces around it."""
    if not isinstance(raw, str):
        raise BadValue(raw)
    return raw.strip()


def entries_of(raw: object) -> list[str]:
    """A string or an array of strings; text may hold several entries between commas."""
    if isinstance(raw, str):
        return [part.strip() for part in raw.split(",") if part.strip()]
    if not isinstance(raw, list):
        raise BadValue(raw)
    for entry in raw:
        if not isinstance(entry, str) or not entry.strip():
            raise BadValue(entry)
    return [entry.strip() for entry in raw]


_LISTEN = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+)):([0-9]{1,5})")


def _listen_entry(text: str) -> Listen:
    scheme, is_tls, rest = text.rpartition("://")
    if is_tls and scheme.lower() not in ("https", "http"):
        raise BadValue(text)
    found = _LISTEN.fullmatch(rest.removesuffix("/"))
    if found is None or int(found[3]) > 65535:
        raise BadValue(text)
    host = "127.0.0.1" if found[2] == "localhost" else found[1] or found[2]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise BadValue(text) from None
    # A bracketed IPv4 address would be taken apart differently by every reader.
    if (address.version == 6) != (found[1] is not None):
        raise BadValue(text)
    return Listen(str(address), int(found[3]), scheme.lower() == "https")


def listens(raw: object) -> tuple[Listen, ...]:
    """Addresses to listen on, none twice."""
    entries = tuple(_listen_entry(entry) for entry in entries_of(raw))
    for position, entry in enumerate(entries):
        if entry.port and entry.address in [other.address for other in entries[:position]]:
            raise BadValue(f"{entry} twice")
    return entries


def one_listen_at_least(raw: object) -> tuple[Listen, ...]:
    """Addresses to listen on, not none."""
    entries = listens(raw)
    if not entries:
        raise BadValue(raw)
    return entries


def udp_listens(raw: object) -> tuple[Listen, ...]:
    """Addresses to listen on, not none, without a scheme."""
    entries = one_listen_at_least(raw)
    for text in entries_of(raw):
        if "://" in text:
            raise BadValue(text)
    return entries


def networks_of(raw: object) -> tuple[Network, ...]:
    """Addresses and networks in CIDR form; host bits must be 0."""
    networks: list[Network] = []
    for entry in entries_of(raw):
        try:
            networks.append(ipaddress.ip_network(entry))
        except ValueError:
            raise BadValue(entry) from None
    return tuple(networks)


def origin_url(raw: object) -> str | None:
    """scheme://host[:port] and nothing else; "" is none."""
    text = text_of(raw)
    if not text:
        return None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise BadValue(text) from None
    is_plain = (
        parts.scheme in ("http", "https")
        and parts.hostname
        and parts.path in ("", "/")
        and not (parts.query or parts.fragment or parts.username or parts.password)
        and port != 0
        and not re.search(r"[\s\"'<>\\]", text)
        and "@" not in text
    )
    if not is_plain:
        raise BadValue(text)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def file_path(raw: object) -> Path | None:
    """A path as written; "" is none."""
    text = text_of(raw)
    return Path(text) if text else None


def whole_days(raw: object) -> int:
    """A number of days, 1 to 3650."""
    days = int(raw) if isinstance(raw, str) and raw.strip().isdecimal() else raw
    if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= 3650:
        raise BadValue(raw)
    return days


def proxy_url(raw: object) -> str | None:
    """http://[user:password@]host:port; "" is none."""
    text = text_of(raw)
    if not text:
        return None
    try:
        parts = urlsplit(text)
        is_good = (
            parts.scheme == "http"
            and parts.hostname is not None
            and parts.port is not None
            and parts.path in ("", "/")
            and not (parts.query or parts.fragment)
            and not re.search(r"\s", text)
        )
    except ValueError:
        is_good = False
    if not is_good:
        raise BadValue(raw)
    return text.removesuffix("/")


def exchange_interval_s(raw: object) -> int:
    """A duration of a minute to a day, in seconds."""
    try:
        seconds = parse_duration_s(text_of(raw))
    except ValueError:
        raise BadValue(raw) from None
    if not 60 <= seconds <= 86_400:
        raise BadValue(raw)
    return seconds


def whole_months(raw: object) -> int:
    """A number of months, 1 to 120."""
    months = int(raw) if isinstance(raw, str) and raw.strip().isdecimal() else raw
    if not isinstance(months, int) or isinstance(months, bool) or not 1 <= months <= 120:
        raise BadValue(raw)
    return months


_PROBE = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")


def probes(raw: object) -> tuple[str, ...]:
    """ "host:port" (a name, an IPv4 address or a bracketed IPv6 one) or http(s) URLs."""
    entries = entries_of(raw)
    for entry in entries:
        if entry.startswith(("http://", "https://")):
            try:
                is_good = bool(urlsplit(entry).hostname) and not re.search(r"\s", entry)
            except ValueError:
                is_good = False
        else:
            found = _PROBE.fullmatch(entry)
            is_good = found is not None and 1 <= int(found[1]) <= 65535
        if not is_good:
            raise BadValue(entry)
    return tuple(entries)


def database_url(raw: object) -> str:
    """ "sqlite" or a PostgreSQL URL that names a database."""
    text = text_of(raw)
    if text == "sqlite":
        return text
    try:
        parts = urlsplit(text)
    except ValueError:
        raise BadValue(text) from None
    if parts.scheme not in ("postgresql", "postgres") or len(parts.path) < 2:
        raise BadValue(text)
    return text
