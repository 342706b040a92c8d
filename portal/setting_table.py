"""The table of settings: every one of them with its meaning, default and parser.

portal/settings.py reads by it, `pesisir init` writes its file by it, docs/settings.md shows it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from portal.setting_values import (
    database_url,
    exchange_interval_s,
    file_path,
    listens,
    networks_of,
    one_listen_at_least,
    origin_url,
    probes,
    proxy_url,
    udp_listens,
    whole_days,
    whole_months,
)

PREFIX = "PESISIR_"


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of the table."""

    section: str
    key: str
    kind: str  # what may stand there, in a word or two (the "type" column of docs/settings.md)
    default: str | list[str]
    parse: Callable[[object], Any]
    expected: str  # ends the sentence "<key> is <value>; expected ..."
    meaning: str
    is_secret: bool = False

    @property
    def name(self) -> str:
        """section.key"""
        return f"{self.section}.{self.key}"

    @property
    def variable(self) -> str:
        """The environment variable that overrides the file."""
        return f"{PREFIX}{self.section}_{self.key}".upper()

    @property
    def is_list(self) -> bool:
        """Whether the value may be an array."""
        return "array" in self.kind


_AN_ADDRESS = (
    'an address and port such as "0.0.0.0:8080" or "[::]:8080" (port 0..65535), or an array'
)
_A_NETWORK = 'addresses or networks such as ["10.8.0.0/16", "127.0.0.1"], with no host bits set'
_AN_ORIGIN = 'http:// or https:// with a host and an optional port, no path: "http://10.1.0.1:8080"'

TABLE: tuple[Setting, ...] = (
    Setting(
        "http",
        "listen",
        "address, or array of addresses",
        "0.0.0.0:8080",
        one_listen_at_least,
        _AN_ADDRESS + ', optionally with "https://" before it',
        "Where the residents' pages listen. An entry with https:// before it speaks TLS and needs "
        "tls_cert and tls_key. A service that starts at boot listens on port 80.",
    ),
    Setting(
        "http",
        "url",
        "URL",
        "",
        origin_url,
        _AN_ORIGIN,
        "The address phones use to reach the portal. It stands in gateway configurations and in "
        "the QR codes of cards. Empty: made from the first listen address.",
    ),
    Setting(
        "http",
        "operator_listen",
        "address, or array of addresses",
        [],
        listens,
        _AN_ADDRESS + ", or nothing",
        "Where the operator's desk listens, off the guest network. Empty: port 8090 of "
        "loopback and of every private address of this box in whose network no gateway, no "
        "portal address and no phone is. https:// entries of listen serve the desk too.",
    ),
    Setting(
        "http",
        "tls_cert",
        "file",
        "",
        file_path,
        "the path of a certificate file in PEM form",
        "Certificate with its chain (PEM), for listen entries with https://. A relative path "
        "starts at the directory of pesisir.toml.",
    ),
    Setting(
        "http",
        "tls_key",
        "file",
        "",
        file_path,
        "the path of a private key file in PEM form",
        "Private key of tls_cert (PEM).",
    ),
    Setting(
        "http",
        "trusted_proxies",
        "array of addresses or networks",
        [],
        networks_of,
        _A_NETWORK,
        "Reverse proxies whose X-Forwarded-For is believed. From anybody else it is ignored.",
    ),
    Setting(
        "http",
        "metrics_from",
        "array of addresses or networks",
        [],
        networks_of,
        _A_NETWORK,
        "Who may read /metrics besides this machine itself.",
    ),
    Setting(
        "radius",
        "auth",
        "address, or array of addresses",
        "0.0.0.0:1812",
        udp_listens,
        'an address and port such as "0.0.0.0:1812" or "[::]:1812" (port 0..65535), or an array',
        "UDP address for Access-Requests.",
    ),
    Setting(
        "radius",
        "acct",
        "address, or array of addresses",
        "0.0.0.0:1813",
        udp_listens,
        'an address and port such as "0.0.0.0:1813" or "[::]:1813" (port 0..65535), or an array',
        "UDP address for Accounting-Requests. Gateways expect it at the auth port plus one.",
    ),
    Setting(
        "backhaul",
        "probes",
        "array of host:port or URLs",
        [],
        probes,
        'host and port such as "1.1.1.1:443" (a TCP connection), or a URL such as '
        '"http://example.org/" (any answer), or an array of them',
        "Far places that show whether the village's link works. It counts as down when all of "
        "them failed three times in a row, and time on cards stands still meanwhile. Empty: the "
        "state is unknown and time runs. A satellite modem may answer TCP by itself; a URL sees "
        "through that.",
    ),
    Setting(
        "privacy",
        "personal_days",
        "days",
        "90",
        whole_days,
        "a number of days, 1 to 3650",
        "After so many days a session's MAC and IP addresses are erased; usage stays. The office's "
        "archive schedule may ask for another period.",
    ),
    Setting(
        "privacy",
        "complaint_days",
        "days",
        "395",
        whole_days,
        "a number of days, 1 to 3650",
        "So many days after its answer a complaint is deleted. Thirteen months: this year can be "
        "compared with the last. Contact and card go earlier, with `personal_days`.",
    ),
    Setting(
        "privacy",
        "session_months",
        "months",
        "13",
        whole_months,
        "a number of months, 1 to 120",
        "After so many whole months single sessions are deleted. A hub deletes what tells users "
        "apart too; a node drops the bodies of such records and keeps their hashes, with a hub "
        "only of those that the hub has in its own backup. The sums of each day stay for ever. 13 "
        "months let a month be compared with the same one a year before.",
    ),
    Setting(
        "hub",
        "url",
        "URL",
        "",
        origin_url,
        _AN_ORIGIN,
        "Where the hub of this node is now. Empty: where it was when this box was enrolled with "
        "pesisir enrol. Its certificate and its keys stay those of the enrolment.",
    ),
    Setting(
        "hub",
        "proxy",
        "URL",
        "",
        proxy_url,
        "http://host:port, with user:password@ before the host where the proxy asks for them",
        "An HTTP proxy on the way to the hub. It only passes on what it cannot read (CONNECT).",
        is_secret=True,
    ),
    Setting(
        "hub",
        "interval",
        "duration",
        "30m",
        exchange_interval_s,
        "a duration from 1m to 1d, such as 30m",
        "How often the node exchanges with its hub; a longer one saves data, about 2 kB each time. "
        "While somebody watches at the desk it is 5 minutes.",
    ),
    Setting(
        "database",
        "url",
        '"sqlite" or PostgreSQL URL',
        "sqlite",
        database_url,
        '"sqlite" or "postgresql://user:password@host/name"',
        "Where a hub keeps its data. A node keeps SQLite in its directory and accepts nothing "
        "else here.",
        is_secret=True,
    ),
    Setting(
        "backup",
        "directory",
        "directory",
        "",
        file_path,
        "the path of a directory",
        "Where the backup of every night goes: best another disk, or a share of another machine. A "
        "hub's lets nodes forget only there. Empty: backups. A relative path starts at the "
        "directory of pesisir.toml.",
    ),
)

NOT_A_HUBS = (
    *("radius", "backhaul", "hub", "http.operator_listen"),
    *("privacy.personal_days", "privacy.complaint_days"),
)
"""Sections and settings that only a node reads."""
AT_A_HUB = {
    "http.listen": "Where nodes and the browsers of reviewers connect.",
    "http.url": "The address nodes use to reach the hub.",
    "privacy.session_months": "After so many whole months single sessions are deleted.",
}
"""What these mean to a hub."""


def is_a_hubs(setting: Setting) -> bool:
    """Whether a hub reads it."""
    return setting.section not in NOT_A_HUBS and setting.name not in NOT_A_HUBS
