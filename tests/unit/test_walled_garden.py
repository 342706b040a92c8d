"""What phones may use before they log in."""

import pytest

from portal import walled_garden
from portal.errors import DeskError


def test_services_are_kept_once_and_in_their_order() -> None:
    typed = " Layanan.Desa.id, 10.9.0.5:8443;layanan.desa.id:443\npuskesmas.example:80 "
    stored = walled_garden.services(typed)
    assert stored == "layanan.desa.id 10.9.0.5:8443 puskesmas.example:80"
    assert walled_garden.services(stored) == stored
    assert walled_garden.parsed(stored) == [
        ("layanan.desa.id", 443),
        ("10.9.0.5", 8443),
        ("puskesmas.example", 80),
    ]
    assert walled_garden.services("") == "" and walled_garden.parsed("") == []


@pytest.mark.parametrize(
    "typed",
    [
        "layanan",
        "http://layanan.desa.id",
        "layanan.desa.id/masuk",
        "layanan.desa.id:0",
        "layanan.desa.id:65536",
        "layanan.desa.id:",
        "10.9.0.5:53",
        "10.9.0.300",
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "fd00::1",
        "-a.example",
        "a..example",
        "*.example",
        "a.example' $(reboot)",
    ],
)
def test_what_is_no_service_is_refused(typed: str) -> None:
    with pytest.raises(DeskError) as refused:
        walled_garden.services(typed)
    assert refused.value.key == "gateways.service"


@pytest.mark.parametrize("name", [*walled_garden.PROBE_NAMES, "google.com", "a.apple.com"])
def test_what_phones_probe_is_never_opened(name: str) -> None:
    with pytest.raises(DeskError) as refused:
        walled_garden.services(f"layanan.desa.id {name}")
    assert refused.value.key == "gateways.service_probe"
    assert not walled_garden.is_probed(f"{name}.desa.id")
