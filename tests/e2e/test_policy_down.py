"""What the office publishes at the hub is in force at the node with its next exchange."""

import asyncio
from pathlib import Path

from portal import settings
from portal.serve_hub import Hub
from tests.e2e.command import pesisir
from tests.e2e.hub_process import RunningHub


def publish(directory: Path, name: str, content: dict[str, object]) -> None:
    """Publish for all sites, while the hub is not running."""

    async def play() -> None:
        hub = await Hub.open(directory, settings.load_for_hub(directory))
        try:
            await hub.office.publishing.publish(name, "all", lambda _: content, "dinas")
        finally:
            await hub.close()

    asyncio.run(play())


def test_profiles_and_announcements_reach_the_node_and_the_hub_knows(tmp_path: Path) -> None:
    node = tmp_path / "node"
    hub = RunningHub(tmp_path / "hub")
    publish(hub.directory, "profiles", {"profiles": {"warga": {"data_day": "500MB"}}})
    publish(hub.directory, "announcements", {"announcements": [{"words": "Rapat desa"}]})
    with hub:
        file = tmp_path / "site.enrol"
        hub.command("site", "add", "TJL", "Tanjung Laut", "--zone", "Asia/Makassar", "--file", file)
        pesisir("--dir", node, "enrol", file, "--json")
        hub.command("approve", "TJL")

        first = pesisir("--dir", node, "sync", "--json").json
        assert first["received"] == 2
        states = {(one["name"], one["version"]): one["state"] for one in first["documents"]}
        assert states == {("profiles", 1): "applied", ("announcements", 1): "applied"}
        shown = pesisir("--dir", node, "profile", "show", "warga", "--json").json
        assert shown["settings"]["data_day"] == "500MB"
        [site] = pesisir("--dir", node, "site", "list", "--json").json
        assert site["announcement"] == "Rapat desa"

        second = pesisir("--dir", node, "sync", "--json").json
        assert (second["received"], second["standing"]) == (0, "well")
