"""Operators from the command line, the first admin, the recovery sheet, and where the desk is:
the real program, beside a running node and without one."""

import http.client
import re
import ssl
import stat
import subprocess
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from tests.e2e.command import RunningNode, pesisir

SETTINGS = """
[http]
listen = "127.0.0.1:0"
operator_listen = "127.0.0.1:0"
[radius]
auth = "127.0.0.1:0"
acct = "127.0.0.1:0"
"""


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A new node's directory and what init said."""
    directory = tmp_path / "node"
    directory.mkdir()
    (directory / "pesisir.toml").write_text(SETTINGS)
    outcome = pesisir("init", "--dir", directory, "--site", "KMAL", "--json")
    return directory, outcome.json


class Visitor:
    """A browser that keeps cookies."""

    def __init__(self, origin: str) -> None:
        self.origin = urlsplit(origin)
        self.cookies: dict[str, str] = {}
        self.flags: dict[str, str] = {}

    def ask(self, path: str, fields: dict[str, str] | None = None) -> tuple[int, str, str]:
        """(status, location, text) of a GET, or of a POST with these fields."""
        host, port = self.origin.hostname or "", self.origin.port
        if self.origin.scheme == "https":
            context = ssl._create_unverified_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=60, context=context
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=60)
        try:
            headers = {"cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())}
            if fields is not None:
                headers["content-type"] = "application/x-www-form-urlencoded"
            connection.request(
                "GET" if fields is None else "POST",
                path,
                None if fields is None else urlencode(fields),
                headers,
            )
            response = connection.getresponse()
            for line in response.headers.get_all("set-cookie") or []:
                for name, morsel in SimpleCookie(line).items():
                    self.cookies[name] = morsel.value
                    self.flags[name] = line
            location = response.headers.get("location", "")
            return response.status, location, response.read().decode(errors="replace")
        finally:
            connection.close()

    def sign_in(self, name: str, password: str) -> str:
        """Where the sign-in leads; '' when it was refused."""
        _, _, text = self.ask("/operator/sign-in?with=password")
        found = re.search(r'name="csrf" value="([^"]+)"', text)
        assert found is not None, text
        fields = {"csrf": found[1], "name": name, "password": password}
        return self.ask("/operator/sign-in", fields)[1]


def desk_of(node: RunningNode) -> str:
    found = re.search(r" desk=(http\S+)/operator/", node.ready)
    assert found is not None, node.ready
    return found[1]


def test_the_first_password_must_be_changed(made: tuple[Path, dict[str, str]]) -> None:
    directory, said = made
    listed = pesisir("operator", "list", "--dir", directory, "--json").json
    assert [(one["name"], one["role"], one["site"], one["must_change"]) for one in listed] == [
        ("admin", "admin", None, True)
    ]
    with RunningNode(directory) as node:
        visitor = Visitor(desk_of(node))
        assert visitor.sign_in("admin", said["password"]) == "/operator/me/password"
        assert visitor.ask("/operator/")[:2] == (303, "/operator/me/password")
        log = (directory / "node.log").read_text()
        assert "desk_open url=http://127.0.0.1:" in log
        assert said["password"] not in log
        checked = pesisir("check", "--dir", directory, "--json").json["checks"]
        assert checks_of(checked, "desk") == [("ok", f"open at {desk_of(node)}/operator/")]


def checks_of(checks: list[dict[str, str]], name: str) -> list[tuple[str, str]]:
    return [(one["status"], one["message"]) for one in checks if one["name"] == name]


def test_the_recovery_sheet_says_what_to_do_and_holds_no_secret(
    made: tuple[Path, dict[str, str]],
) -> None:
    directory, said = made
    sheet = Path(said["recovery_sheet"])
    assert sheet.parent == directory
    assert stat.S_IMODE(sheet.stat().st_mode) == 0o600
    text = sheet.read_text(encoding="utf-8")
    for command in (
        f"pesisir --dir {directory} operator password admin",
        f"pesisir --dir {directory} operator add NAMA --role admin",
        f"pesisir --dir {directory} restore FILE",
        f"{directory}/backups",
        "semua kunci alat",
    ):
        assert command in text
    assert said["password"] not in text
    keys = (directory / "pesisir.keys").read_text()
    for key in re.findall(r"[0-9a-f]{32,}", keys):
        assert key not in text
    assert not re.search(r"https?://|src=|<script", text)
    # What it tells people to do works.
    again = pesisir("operator", "password", "admin", "--dir", directory, "--json").json
    assert again["must_change"] and again["password"] != said["password"]
    with RunningNode(directory) as node:
        assert Visitor(desk_of(node)).sign_in("admin", said["password"]) == ""
        assert Visitor(desk_of(node)).sign_in("admin", again["password"]) != ""


def test_init_says_where_the_sheet_is_and_what_it_is_for(tmp_path: Path) -> None:
    out = pesisir("init", "--dir", tmp_path / "node").out
    assert f"Recovery sheet: {tmp_path / 'node' / 'recovery-sheet.html'}" in out
    assert "must be changed at the first sign-in" in out
    assert "when nobody can sign in" in " ".join(out.split())


def test_operators_are_added_and_removed_beside_a_running_node(
    made: tuple[Path, dict[str, str]],
) -> None:
    directory, _ = made
    with RunningNode(directory) as node:
        words = ("operator", "add", "sari", "--role", "operator", "--site", "kmal", "--json")
        added = pesisir(*words, "--dir", directory).json
        assert (added["name"], added["role"], added["site"]) == ("sari", "operator", "KMAL")
        assert added["must_change"]
        visitor = Visitor(desk_of(node))
        assert visitor.sign_in("sari", added["password"]) == "/operator/me/password"
        assert "is removed" in pesisir("operator", "remove", "sari", "--dir", directory).out
        status, location, _ = visitor.ask("/operator/me/password")
        assert (status, location.partition("?")[0]) == (303, "/operator/sign-in")
    listed = pesisir("operator", "list", "--dir", directory).out
    assert "sari" not in listed and "admin" in listed


def test_a_role_and_its_sites_are_changed_with_a_reason(made: tuple[Path, dict[str, str]]) -> None:
    directory, _ = made
    pesisir("site", "add", "WAI", "Waisai", "--zone", "Asia/Jayapura", "--dir", directory)
    words = ("operator", "add", "sari", "--role", "operator", "--site", "KMAL", "--site", "wai")
    assert "KMAL, WAI" in pesisir(*words, "--dir", directory).out
    change = ("operator", "set", "sari", "--reason", "pindah", "--dir", directory)
    assert pesisir(*change, "--site", "WAI", "--json").json["sites"] == ["WAI"]
    changed = pesisir(*change, "--role", "reviewer", "--json").json
    assert (changed["role"], changed["site"]) == ("reviewer", "WAI"), "what is not named stays"
    assert "sari is reviewer of: all." in pesisir(*change, "--all-sites").out
    assert "Nothing would change" in pesisir(*change, "--all-sites").sentence()
    assert "Nothing to change" in pesisir(*change).sentence(2)
    change = ("operator", "set", "admin", "--reason", "x", "--dir", directory)
    assert "last admin" in pesisir(*change, "--role", "reviewer").sentence()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "Sari Dewi", "--role", "operator"), "The name is Sari Dewi; expected"),
        (("add", "admin", "--role", "reviewer"), "There is an operator admin already"),
        (("add", "x", "--role", "admin", "--site", "KMAL"), "leave the site out"),
        (("add", "x", "--role", "operator", "--site", "NONE"), "There is no site 'NONE'"),
        (("password", "nobody"), "There is no operator nobody"),
        (("remove", "nobody"), "There is no operator nobody"),
        (("remove", "admin"), "The operator admin is the last admin"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    made: tuple[Path, dict[str, str]], words: tuple[str, ...], said: str
) -> None:
    assert said in pesisir("operator", *words, "--dir", made[0]).sentence()


def test_an_unknown_role_is_wrong_usage(made: tuple[Path, dict[str, str]]) -> None:
    sentence = pesisir("operator", "add", "x", "--role", "king", "--dir", made[0]).sentence(2)
    assert "king" in sentence


def test_passwords_are_printed_once_and_stored_as_a_hash(
    made: tuple[Path, dict[str, str]],
) -> None:
    directory, said = made
    out = pesisir("operator", "add", "sari", "--role", "operator", "--dir", directory).out
    password = re.search(r"Password: (\S+)", out)
    assert password is not None and "shown only now" in out
    assert "Site:     all" in out
    listed = pesisir("operator", "list", "--dir", directory, "--json").out
    data = b"".join(path.read_bytes() for path in directory.iterdir() if path.is_file())
    for secret in (password[1], said["password"]):
        assert secret not in listed
        assert secret.encode() not in data
    assert b"$argon2id$v=19$m=19456,t=2,p=1$" in data


def test_with_a_certificate_the_desk_is_on_the_residents_address_too(tmp_path: Path) -> None:
    directory = tmp_path / "node"
    directory.mkdir()
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=wifi.desa.example"),
            *("-keyout", str(directory / "key.pem"), "-out", str(directory / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    (directory / "pesisir.toml").write_text(
        SETTINGS.replace(
            'listen = "127.0.0.1:0"\noperator',
            'listen = ["127.0.0.1:0", "https://127.0.0.1:0"]\ntls_cert = "cert.pem"\n'
            'tls_key = "key.pem"\noperator',
        )
    )
    said = pesisir("init", "--dir", directory, "--json").json
    with RunningNode(directory) as node:
        secure = re.search(r" https=(https://\S+)", node.ready)
        plain = re.search(r" http=(http://\S+)", node.ready)
        assert secure is not None and plain is not None
        assert f" desk={secure[1]}/operator/" in node.ready
        status, _, text = Visitor(plain[1]).ask("/operator/sign-in")
        assert status == 404 and "Meja petugas tidak dibuka di sini" in text
        visitor = Visitor(secure[1])
        assert visitor.sign_in("admin", said["password"]) == "/operator/me/password"
        assert "Secure" in visitor.flags["pesisir_desk"]
        loopback = Visitor(desk_of(node))
        assert loopback.sign_in("admin", said["password"]) == "/operator/me/password"
        assert "Secure" not in loopback.flags["pesisir_desk"]
