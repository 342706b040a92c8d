"""Walled garden: what phones may use before they log in, and what never.

Phones ask a few names for a known answer to learn whether a network has a portal. A phone that
reaches one before it logs in believes that it is online and shows no sign-in page. So those names
are never opened, and while the upstream resolver is dead the gateway answers them itself, because a
phone without any answer shows no page either.
"""

import ipaddress
import re

from portal.errors import DeskError

PROBE_NAMES = (
    "connectivitycheck.gstatic.com",
    "connectivitycheck.android.com",
    "clients3.google.com",
    "play.googleapis.com",
    "www.google.com",
    "captive.apple.com",
    "www.apple.com",
    "www.msftconnecttest.com",
    "www.msftncsi.com",
    "dns.msftncsi.com",
    "detectportal.firefox.com",
    "connectivitycheck.platform.hicloud.com",
    "connectivitycheck.platform.hihonorcloud.com",
    "connect.rom.miui.com",
    "conn1.oppomobile.com",
    "conn2.oppomobile.com",
    "wifi.vivo.com.cn",
    "nmcheck.gnome.org",
    "connectivity-check.ubuntu.com",
    "network-test.debian.org",
)
"""The names phones and computers probe (collected in AOSP NetworkMonitor, Apple's CNA, Microsoft
NCSI, Firefox, NetworkManager and the builds of Huawei, Xiaomi, Oppo and Vivo)."""

RESOLVER_NAMES = (
    "chrome.cloudflare-dns.com",
    "cloudflare-dns.com",
    "dns.adguard-dns.com",
    "dns.google",
    "dns.nextdns.io",
    "dns.quad9.net",
    "doh.opendns.com",
    "mozilla.cloudflare-dns.com",
    "one.one.one.one",
)
"""Well-known resolvers that phones ask past the provider's, over TLS or HTTPS."""

CANARY_NAMES = ("use-application-dns.net", "mask.icloud.com", "mask-h2.icloud.com")
"""Names whose absence makes Firefox and Apple's relay use the network's own resolver."""

NOWHERE = "192.0.2.1"
"""RFC 5737: an address that is nobody's, so that whoever asks it is caught by the gateway."""

SERVICES_MOST = 12
USUAL_PORT = 443

_NEVER = (
    *("gstatic.com", "googleapis.com", "google.com", "android.com", "googleusercontent.com"),
    *("apple.com", "icloud.com", "msftconnecttest.com", "msftncsi.com", "firefox.com"),
    *("hicloud.com", "hihonorcloud.com", "miui.com", "oppomobile.com", "vivo.com.cn"),
    *("gnome.org", "ubuntu.com", "debian.org", "qualcomm.cn", "fedoraproject.org", "archlinux.org"),
)
"""Domains that are probed, or whose addresses also serve what is probed."""
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_PORT_53 = 53


def services(text: str) -> str:
    """What people typed as always-open services, as it is stored: `host` or `host:port`, one blank
    between them; port 443 is not written.

    Raises DeskError `gateways.service`, `gateways.service_probe`, `gateways.services_many`.
    """
    found: list[str] = []
    for word in re.split(r"[\s,;]+", text.strip().lower()):
        if word:
            service = _service(word)
            if service not in found:
                found.append(service)
    if len(found) > SERVICES_MOST:
        raise DeskError("gateways.services_many", count=len(found), most=SERVICES_MOST)
    return " ".join(found)


def _service(word: str) -> str:
    host, colon, port_text = word.partition(":")
    port = USUAL_PORT
    if colon:
        if not re.fullmatch("[0-9]{1,5}", port_text) or not 1 <= int(port_text) <= 65_535:
            raise DeskError("gateways.service", text=word[:80])
        port = int(port_text)
    if not _is_host(host) or port == _PORT_53:
        raise DeskError("gateways.service", text=word[:80])
    if is_probed(host):
        raise DeskError("gateways.service_probe", text=host)
    return host if port == USUAL_PORT else f"{host}:{port}"


def _is_host(host: str) -> bool:
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        labels = host.split(".")
        return (
            len(host) <= 253
            and len(labels) >= 2
            and all(_LABEL.fullmatch(label) for label in labels)
            and not labels[-1].isdigit()
        )
    return not (address.is_unspecified or address.is_multicast or address.is_loopback)


def is_probed(host: str) -> bool:
    """Whether opening this name would also open what phones probe."""
    return any(host == name or host.endswith("." + name) for name in (*_NEVER, *PROBE_NAMES))


def parsed(stored: str) -> list[tuple[str, int]]:
    """Host and TCP port of each stored service."""
    pairs = []
    for word in stored.split():
        host, _, port = word.partition(":")
        pairs.append((host, int(port or USUAL_PORT)))
    return pairs
