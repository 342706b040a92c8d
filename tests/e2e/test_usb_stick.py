"""A village without a link: its records go to the hub on a stick, and the signatures come back."""

from pathlib import Path

from tests.e2e.command import pesisir
from tests.e2e.hub_process import RunningHub


def test_a_stick_carries_the_records_and_brings_the_hubs_signature_back(tmp_path: Path) -> None:
    node, stick = tmp_path / "node", tmp_path / "stick"
    stick.mkdir()
    with RunningHub(tmp_path / "hub") as hub:
        file = tmp_path / "site.enrol"
        hub.command("site", "add", "TJL", "Tanjung Laut", "--zone", "Asia/Makassar", "--file", file)
        pesisir("--dir", node, "enrol", file, "--json")
        hub.command("approve", "TJL")
        pesisir("--dir", node, "profile", "set", "warga", "--data-day", "500MB")

        out = pesisir("--dir", node, "ledger", "export", "--usb", stick, "--json").json
        assert (out["batches"], out["answers"]) == (1, 0) and out["records"] > 0
        assert pesisir("--dir", node, "ledger", "status", "--json").json["at_hub"] == 0

        [taken] = pesisir("--dir", hub.directory, "hub", "import", stick, "--json").json
        assert (taken["size"], taken["problem"]) == (out["records"], None)
        again = pesisir("--dir", hub.directory, "hub", "import", stick, "--json").json
        assert again == [taken]

        back = pesisir("--dir", node, "ledger", "export", "--usb", stick, "--json").json
        assert (back["answers"], back["records"]) == (1, 0)
        status = pesisir("--dir", node, "ledger", "status", "--json").json
        assert status["at_hub"] == status["size"]
        assert status["cosigned"]["size"] == status["size"]
        # Carried once more without anything new, it says so in words.
        said = pesisir("--dir", hub.directory, "hub", "import", stick)
        assert said.status == 0 and "the box had nothing new" in said.out


def test_a_stick_that_was_changed_is_refused_whole(tmp_path: Path) -> None:
    node, stick = tmp_path / "node", tmp_path / "stick"
    stick.mkdir()
    with RunningHub(tmp_path / "hub") as hub:
        file = tmp_path / "site.enrol"
        hub.command("site", "add", "TJL", "Tanjung Laut", "--zone", "Asia/Makassar", "--file", file)
        pesisir("--dir", node, "enrol", file, "--json")
        hub.command("approve", "TJL")
        written = pesisir("--dir", node, "ledger", "export", "--usb", stick, "--json").json
        path = Path(written["file"])
        octets = bytearray(path.read_bytes())
        octets[-100] ^= 1
        path.write_bytes(octets)
        refused = pesisir("--dir", hub.directory, "hub", "import", stick)
        assert "changed on the way" in refused.sentence()
