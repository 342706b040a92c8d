"""Settings: what is read, from where, and the sentence for each mistake."""

import dataclasses
import ipaddress
from pathlib import Path

import pytest

from portal import setting_table, settings
from portal.errors import UserError
from portal.setting_values import Listen
from portal.settings import SettingsError


def load(directory: Path, text: str = "", **environ: str) -> settings.Settings:
    if text:
        (directory / "pesisir.toml").write_text(text, encoding="utf-8")
    return settings.load(directory, environ)


def sentence(directory: Path, text: str = "", **environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(directory, text, **environ)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_without_a_file_the_documented_defaults_hold(tmp_path: Path) -> None:
    found = load(tmp_path)
    assert found.http.listen == (Listen("0.0.0.0", 8080),)
    assert found.radius.auth == (Listen("0.0.0.0", 1812),)
    assert found.radius.acct == (Listen("0.0.0.0", 1813),)
    assert found.http.url is None and found.hub.url is None
    assert found.http.operator_listen == found.http.trusted_proxies == found.http.metrics_from == ()
    assert found.http.tls_cert is None and found.http.tls_key is None
    assert found.backhaul.probes == ()
    assert found.database.url == "sqlite"


def test_settings_cannot_be_changed_once_read(tmp_path: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load(tmp_path).http = None  # type: ignore[misc,assignment]


def test_a_listen_value_is_text_or_an_array(tmp_path: Path) -> None:
    found = load(tmp_path, '[http]\nlisten = ["10.1.0.2:80", "[::]:8080", "localhost:0"]')
    assert [str(entry) for entry in found.http.listen] == [
        "10.1.0.2:80",
        "[::]:8080",
        "127.0.0.1:0",
    ]
    assert found.http.listen[1].host == "::"
    assert load(tmp_path, '[radius]\nauth = "[::1]:0"').radius.auth == (Listen("::1", 0),)


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    text = '[http]\nlisten = "10.1.0.2:80"\nurl = "http://10.1.0.2"'
    found = load(tmp_path, text, PESISIR_HTTP_LISTEN="127.0.0.1:9000,[::]:9000")
    assert [str(entry) for entry in found.http.listen] == ["127.0.0.1:9000", "[::]:9000"]
    assert found.http.url == "http://10.1.0.2"
    again = load(tmp_path, PESISIR_HTTP_LISTEN='["127.0.0.1:9001", "127.0.0.1:9002"]')
    assert [entry.port for entry in again.http.listen] == [9001, 9002]
    assert load(tmp_path, PESISIR_HTTP_LISTEN="[::]:7").http.listen == (Listen("::", 7),)


def test_an_empty_variable_clears_a_value_of_the_file(tmp_path: Path) -> None:
    found = load(tmp_path, '[http]\nurl = "http://10.1.0.2"', PESISIR_HTTP_URL="")
    assert found.http.url is None


def test_variables_of_the_command_and_of_strangers_are_left_alone(tmp_path: Path) -> None:
    load(tmp_path, PESISIR_DIR="/x", PESISIR_DEBUG="1", PESISIR_PORT_80_TCP="tcp://1.2.3.4:80")


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("PESISIR_HTTP_LISTN", "PESISIR_HTTP_LISTEN"),
        ("PESISIR_RADUIS_AUTH", "PESISIR_RADIUS_AUTH"),
        ("PESISIR_HTTP_CERTIFICATE", "docs/settings.md"),
        ("PESISIR_HTTP_URL_FILE", "PESISIR_HTTP_URL"),
    ],
)
def test_a_misspelt_variable_stops_with_a_hint(tmp_path: Path, variable: str, hint: str) -> None:
    message = sentence(tmp_path, **{variable: "x"})
    assert variable in message and hint in message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[http]\nlisten = 8080", ("http.listen is 8080", "0.0.0.0:8080")),
        ('[http]\nlisten = "8080"', ("http.listen", '"8080"')),
        ('[http]\nlisten = "0.0.0.0:99999"', ("http.listen", "99999", "0..65535")),
        ('[http]\nlisten = "example.org:80"', ("http.listen", "example.org:80")),
        ('[http]\nlisten = "::1:80"', ("http.listen", "::1:80")),
        ('[http]\nlisten = "[10.0.0.1]:80"', ("http.listen", "[10.0.0.1]:80")),
        ('[http]\nlisten = "ftp://10.0.0.1:80"', ("http.listen", "ftp://10.0.0.1:80")),
        ('[http]\nlisten = ""', ("http.listen", '""')),
        ("[http]\nlisten = []", ("http.listen", "[]")),
        ('[http]\nlisten = ["0.0.0.0:80", 81]', ("http.listen is 81",)),
        ('[http]\nlisten = ["0.0.0.0:80", "0.0.0.0:80"]', ("http.listen", "0.0.0.0:80 twice")),
        ('[http]\nlisten = "https://0.0.0.0:443"', ("http.listen", "http.tls_cert")),
        ('[http]\nurl = "10.1.0.2"', ("http.url", '"10.1.0.2"', "http://")),
        ('[http]\nurl = "http://10.1.0.2/portal"', ("http.url", "no path")),
        ('[http]\nurl = "http://u:p@10.1.0.2"', ("http.url",)),
        ('[http]\nurl = "http://10.1.0.2:99999"', ("http.url", "99999")),
        ("[http]\nurl = true", ("http.url is True",)),
        ('[http]\ntrusted_proxies = ["10.8.0.1/16"]', ("http.trusted_proxies", "10.8.0.1/16")),
        ('[http]\nmetrics_from = ["prometheus"]', ("http.metrics_from", '"prometheus"')),
        ("[http]\nmetrics_from = [1]", ("http.metrics_from is 1",)),
        ('[http]\ntls_cert = "nowhere.pem"', ("http.tls_cert", "nowhere.pem", "No such file")),
        ('[radius]\nauth = "https://0.0.0.0:1812"', ("radius.auth", "https://0.0.0.0:1812")),
        ('[radius]\nacct = "0.0.0.0:1812"', ("radius.auth and radius.acct", "0.0.0.0:1812")),
        ('[backhaul]\nprobes = ["1.1.1.1"]', ("backhaul.probes", '"1.1.1.1"', "1.1.1.1:443")),
        ('[backhaul]\nprobes = ["1.1.1.1:0"]', ("backhaul.probes", '"1.1.1.1:0"')),
        ('[hub]\nurl = "hub.example.org"', ("hub.url", "hub.example.org")),
        ('[database]\nurl = "mysql://x/y"', ("database.url", "postgresql://")),
        ("[http]\nlissten = 1", ("http.lissten", "did you mean listen?")),
        ("[htpp]\nlisten = 1", ("[htpp]", "did you mean http?")),
        ("listen = 1", ("listen", "[http]")),
        ("http = 1", ("has http;", "[http]")),
        ("[http\nlisten = 1", ("pesisir.toml is not TOML", "line 1")),
        ("[http]\nurl = 'a\x7fb'", ("pesisir.toml",)),
    ],
)
def test_a_bad_value_names_key_value_and_expectation(
    tmp_path: Path, text: str, parts: tuple[str, ...]
) -> None:
    message = sentence(tmp_path, text)
    for part in parts:
        assert part in message


def test_a_bad_variable_is_named_as_the_variable(tmp_path: Path) -> None:
    message = sentence(tmp_path, PESISIR_RADIUS_AUTH="here")
    assert message.startswith('PESISIR_RADIUS_AUTH is "here"; expected an address and port')


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("x")
    assert "http.tls_key is not" in sentence(tmp_path, '[http]\ntls_cert = "c.pem"')
    assert "http.tls_cert is not" in sentence(tmp_path, '[http]\ntls_key = "c.pem"')


def test_relative_certificate_paths_start_at_the_directory(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("x")
    (tmp_path / "k.pem").write_text("x")
    found = load(
        tmp_path,
        '[http]\nlisten=["0.0.0.0:80","https://0.0.0.0:443"]\ntls_cert="c.pem"\ntls_key="k.pem"',
    )
    assert found.http.tls_cert == tmp_path / "c.pem"
    assert [entry.is_tls for entry in found.http.listen] == [False, True]
    assert str(found.http.listen[1]) == "https://0.0.0.0:443"


def test_networks_and_probes_are_read(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        '[http]\ntrusted_proxies = ["10.8.0.0/16", "::1"]\n'
        '[backhaul]\nprobes = ["1.1.1.1:443", "[2606:4700::1111]:443", "http://example.org/x"]',
    )
    assert found.http.trusted_proxies == (
        ipaddress.ip_network("10.8.0.0/16"),
        ipaddress.ip_network("::1/128"),
    )
    assert len(found.backhaul.probes) == 3


def test_a_secret_comes_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("postgresql://u:hunter2@db/pesisir\n")
    found = load(tmp_path, PESISIR_DATABASE_URL_FILE=str(secret))
    assert found.database.url == "postgresql://u:hunter2@db/pesisir"
    shown = settings.describe(tmp_path, {"PESISIR_DATABASE_URL_FILE": str(secret)})
    assert "hunter2" not in repr(shown)
    assert [(s.value, s.origin) for s in shown if s.name == "database.url"] == [
        ("(hidden)", "environment")
    ]
    secret.write_text("mysql://u:hunter2@db")
    assert "hunter2" not in sentence(tmp_path, PESISIR_DATABASE_URL_FILE=str(secret))
    assert "nowhere" in sentence(tmp_path, PESISIR_DATABASE_URL_FILE="nowhere")
    assert "both set" in sentence(
        tmp_path, PESISIR_DATABASE_URL="sqlite", PESISIR_DATABASE_URL_FILE=str(secret)
    )


def test_secrets_do_not_show_in_the_repr_of_the_settings(tmp_path: Path) -> None:
    found = load(tmp_path, PESISIR_DATABASE_URL="postgresql://u:hunter2@db/pesisir")
    assert "hunter2" not in repr(found)


def test_the_file_init_writes_reads_back_as_what_was_asked(tmp_path: Path) -> None:
    text = settings.file_text({"http.listen": ["127.0.0.1:0", "[::1]:0"], "http.url": "http://a"})
    found = load(tmp_path, text)
    assert found.http.url == "http://a"
    assert [str(entry) for entry in found.http.listen] == ["127.0.0.1:0", "[::1]:0"]
    assert max(len(line) for line in text.splitlines()) <= 100
    for setting in setting_table.TABLE:
        assert f"{setting.key} = " in text


def test_the_file_of_defaults_is_the_defaults(tmp_path: Path) -> None:
    written = settings.file_text()
    uncommented = "\n".join(
        line[2:] if line.startswith("# ") and " = " in line else line
        for line in written.splitlines()
    )
    (tmp_path / "empty").mkdir()
    assert load(tmp_path, uncommented) == load(tmp_path / "empty")


def test_describe_says_where_a_value_comes_from(tmp_path: Path) -> None:
    (tmp_path / "pesisir.toml").write_text('[http]\nlisten = "127.0.0.1:1"')
    shown = {
        s.name: (s.value, s.origin)
        for s in settings.describe(tmp_path, {"PESISIR_RADIUS_AUTH": "127.0.0.1:2"})
    }
    assert shown["http.listen"] == ('"127.0.0.1:1"', "pesisir.toml")
    assert shown["radius.auth"] == ('"127.0.0.1:2"', "environment")
    assert shown["backhaul.probes"] == ("[]", "default")


def test_a_file_that_is_not_text_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "pesisir.toml").write_bytes(b"\xff\xfe\x00")
    assert "is not TOML" in sentence(tmp_path)
    (tmp_path / "pesisir.toml").unlink()
    (tmp_path / "pesisir.toml").mkdir()
    assert "cannot read" in sentence(tmp_path)


def test_a_node_refuses_a_database_server(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="database.url") as caught:
        settings.load_for_node(tmp_path, {"PESISIR_DATABASE_URL": "postgresql://u:hunter2@db/x"})
    assert "hunter2" not in str(caught.value)
    assert settings.load_for_node(tmp_path, {}) == settings.load(tmp_path, {})


def test_a_settings_mistake_is_a_user_error() -> None:
    assert issubclass(SettingsError, UserError)


def test_a_hubs_file_has_what_a_hub_reads_in_a_hubs_words(tmp_path: Path) -> None:
    text = settings.file_text({"http.listen": "https://0.0.0.0:8443"}, is_hub=True)
    for word in ("resident", "phone", "[radius]", "[backhaul]", "[hub]", "operator_listen"):
        assert word not in text
    for word in ("[http]", "[privacy]", "session_months", "[database]", "[backup]", "nodes"):
        assert word in text
    (tmp_path / settings.FILE_NAME).write_text(text.replace("https://", ""))
    assert str(settings.load_for_hub(tmp_path, {}).http.listen[0]) == "0.0.0.0:8443"
    shown = [each.name for each in settings.describe(tmp_path, {}, is_hub=True)]
    assert "radius.auth" not in shown and "backup.directory" in shown
