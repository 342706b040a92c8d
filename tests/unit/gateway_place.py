"""A node's gateways, one of each family, and the configurations it makes for them."""

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from portal import gateway_config, settings, walled_garden
from portal.admin import Admin, Gateway
from portal.store import db
from portal.store.db import Database
from portal.store.node import NodeStore
from radius.nas import family_names
from tests.unit.certificates import DAY_S, Authority

NAME = "wifi.kamal.example"
NOW = 1_780_000_000


class Place:
    """An Admin with a site and one gateway of each family, and settings at both levels."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.rendered: dict[Any, dict[str, str]] = {}
        asyncio.run(self._fill())
        authority = Authority()
        issued = authority.issue(NAME, until_at=NOW + 60 * DAY_S)
        (directory / "ca.pem").write_bytes(authority.pem)
        (directory / "node.pem").write_bytes(issued.chain + issued.key)
        self.level_0 = self._settings('[http]\nlisten = "10.20.0.2:8080"\n')
        self.level_1 = self._settings(
            '[http]\nlisten = ["https://10.20.0.2:443", "10.20.0.2:80"]\n'
            f'url = "https://{NAME}"\ntls_cert = "node.pem"\ntls_key = "node.pem"\n'
        )

    def _settings(self, http: str) -> settings.Settings:
        radius = '[radius]\nauth = "10.20.0.2:11812"\nacct = "10.20.0.2:11813"\n'
        (self.directory / settings.FILE_NAME).write_text(http + radius)
        return settings.load_for_node(self.directory)

    async def _fill(self) -> None:
        path = self.directory / db.FILE_NAME
        db.migrate(path)
        database = await Database.open(path)
        try:
            self.admin = Admin(
                NodeStore(database), random_token=secrets.token_urlsafe, now=lambda: NOW
            )
            await self.admin.add_site("KAMAL", "Balai Desa <Kamal> & Co", "Asia/Jakarta")
            for number, family in enumerate(family_names()):
                await self.admin.add_gateway(
                    f"gw-{family}",
                    family=family,
                    address=f"10.20.{number + 1}.1",
                    nas_id=f"balai desa {number}",
                )
        finally:
            await database.close()

    def gateway(self, family: str) -> Gateway:
        return self.admin.gateway(f"gw-{family}")

    def files(
        self,
        family: str,
        version: str = "",
        level: str = "level 0",
        *,
        services: str = "",
        options: dict[str, str] | None = None,
        now: int = NOW,
        **changes: Any,
    ) -> dict[str, str]:
        site = self.admin.site("KAMAL")
        self.admin.sites_by_id[site.id] = replace(
            site, open_services=walled_garden.services(services)
        )
        wanted = {"radius_host": "10.20.0.2", **(options or {})}
        if version:
            wanted["version"] = version
        found = gateway_config.render(
            self.admin,
            replace(self.gateway(family), **changes),
            self.level_0 if level == "level 0" else self.level_1,
            wanted,
            now=now,
        )
        return {file["name"]: file["text"] for file in found}


def opened_place(directory: Path) -> Iterator[Place]:
    """A Place whose own certificate authority is the only one, for the body of a fixture."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(directory / "ca.pem"))
        yield Place(directory)


def lines_of(text: str, comment: str = "#") -> list[str]:
    """The lines that do something, blanks made one."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith(comment)]
