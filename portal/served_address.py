"""Served address: how others reach a listener of this box."""

import ipaddress
import socket


def own_url(host: str, port: int, *, is_tls: bool) -> str:
    """The URL of a listener; a wildcard becomes this box's address towards the outside."""
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        # Connecting a UDP socket sends nothing; it only asks the routing table (RFC 5737 address).
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))
                address = ipaddress.ip_address(probe.getsockname()[0])
            except OSError:
                address = ipaddress.ip_address("127.0.0.1")
    name = f"[{address}]" if address.version == 6 else str(address)
    scheme, usual = ("https", 443) if is_tls else ("http", 80)
    return f"{scheme}://{name}" if port == usual else f"{scheme}://{name}:{port}"
