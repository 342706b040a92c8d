"""Demo hub: the hub of the demo, in the same process, with the demo's node enrolled at it.

Its data lie in `hub` inside the demo's directory. The node exchanges every few seconds, so that a
session that just ended is soon to be seen in the usage log.
"""

import asyncio
import json
import os
import shlex
import socket
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

from portal import control, enrolment, passwords
from portal.audit import COMMAND_LINE
from portal.hub_process import directories as hub_directories
from portal.node import Node
from portal.serve_hub import Hub, HubService
from portal.setting_values import Listen
from portal.settings import Settings, load_for_hub
from portal.sync import trust as hub_trust

HOST: Final = "127.0.0.1"
API_PORT: Final = 8443
PAGE_PORT: Final = 8081
INTERVAL_S: Final = 10
ADMIN: Final = "dinas"
_SIGN_IN: Final = "pesisir.demo"
FreePort = Callable[[Listen, socket.SocketKind], Listen]


def place(directory: Path) -> Path:
    """Where the hub of a demo's directory lies."""
    return directory / "hub"


def make(directory: Path) -> None:
    """Make the hub's directory where there is none yet."""
    where = place(directory)
    if hub_directories.is_hub(where):
        return
    made = hub_directories.make(
        where,
        name="Diskominfo (contoh)",
        zone="Asia/Makassar",
        admin=ADMIN,
        url=f"https://{HOST}:{API_PORT}",
        must_change=False,
        values={"http.listen": [f"https://{HOST}:{API_PORT}", f"{HOST}:{PAGE_PORT}"]},
    )
    descriptor = os.open(where / _SIGN_IN, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump({"admin": made["admin"], "password": made["password"]}, file)


async def start(where: Path, free: FreePort) -> HubService:
    """Run the hub; a port that is taken is replaced by a free one."""
    found = load_for_hub(where)
    listens = tuple(free(listen, socket.SOCK_STREAM) for listen in found.http.listen)
    secure = next(listen for listen in listens if listen.is_tls)
    real = f"https://{secure.address}"
    hub = await Hub.open(where, replace(found, http=replace(found.http, listen=listens, url=real)))
    service = HubService(hub)
    try:
        await service.start()
    except BaseException:
        await hub.close()
        raise
    return service


async def stop(service: HubService) -> None:
    """Stop listening and let the data go."""
    await service.stop()
    await service.hub.close()


def reporting(chosen: Settings, service: HubService) -> Settings:
    """The node's settings, so that it reports to this hub, and often."""
    hub = replace(chosen.hub, url=service.hub.settings.http.url, interval_s=INTERVAL_S)
    return replace(chosen, hub=hub)


async def enrol(service: HubService, node: Node) -> None:
    """Enrol the node with all its sites, as an office would, as far as that was not done before.

    An earlier start may have been killed at any point of it. A box that somebody has revoked to see
    what happens stays revoked.
    """
    office, node_id = service.hub.office, node.signing.node_id
    boxes = await office.reading.boxes()
    if any(row["node_id"] == node_id and row["state"] == "revoked" for row in boxes):
        return
    reported = {row["site"] for row in boxes}
    for site in node.admin.sites_by_id.values():
        if site.code in reported and hub_trust.read(node.directory) is not None:
            continue
        if await office.review.site(site.code) is None:
            invitation = await office.enrolments.add_site(
                site.code, site.name, site.zone, COMMAND_LINE
            )
        else:
            invitation = await office.enrolments.invite(site.code, COMMAND_LINE)
        given = enrolment.read_words(service.hub.settings.http.url or "", invitation.token)
        enrolled = await asyncio.to_thread(
            enrolment.enrol, given, node.signing, program=version("pesisir")
        )
        for waiting in await office.enrolments.waiting():
            if waiting.node_id == node_id and waiting.site == site.code:
                await office.enrolments.approve(
                    waiting.token_id, COMMAND_LINE, words=" ".join(waiting.words), replace=False
                )
        enrolment.keep(node.directory, enrolled)
        control.give_to_owner(node.directory)


def url(service: HubService) -> str:
    """Where reviewers look."""
    host, port, _ = next(one for one in service.http_addresses if not one[2])
    return f"http://{host}:{port}/review/"


def lines(directory: Path, service: HubService) -> list[str]:
    """What the demo prints of the hub."""
    return [
        f"  Hub          {url(service)}  (Diskominfo's side: sites, usage log)",
        f"  Hub sign-in  {_sign_in(directory, service)}",
    ]


def _sign_in(directory: Path, service: HubService) -> str:
    """Who signs in, as far as the demo still knows the password."""
    path = place(directory) / _SIGN_IN
    # A start that was killed may have made the hub and not this file.
    made = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    name, password = made.get("admin", ADMIN), made.get("password", "")
    person = service.hub.office.people.find(name)
    if person is None:
        return "with a name you have added"
    if not passwords.fits(password, person.password_hash):
        program = f"pesisir --dir {shlex.quote(str(place(directory)))}"
        return f"{name}  with the password you have set (else: {program} operator password {name})"
    return f"{name}  password {password}"
