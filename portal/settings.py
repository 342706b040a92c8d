"""Settings: pesisir.toml and PESISIR_<SECTION>_<KEY>, read once, handed on as frozen dataclasses.

One table (setting_table.py) holds every setting; the reader, the file that `pesisir init` writes,
`pesisir check` and docs/settings.md (by a test) all follow it. An unknown key or a bad value stops
the start with the key, the value and what was expected; a secret's value is never shown. Nothing
here opens a socket or knows what a setting is used for.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portal.errors import UserError
from portal.setting_table import AT_A_HUB, PREFIX, TABLE, Setting, is_a_hubs
from portal.setting_values import BadValue, Listen, Network

FILE_NAME = "pesisir.toml"
# These belong to the command itself; they share the prefix and are no settings.
COMMAND_VARIABLES = ("PESISIR_DIR", "PESISIR_DEBUG")


class SettingsError(UserError):
    """A setting that cannot be used: key, value seen (unless secret), what was expected."""


@dataclass(frozen=True, slots=True)
class Http:
    """[http]: the pages."""

    listen: tuple[Listen, ...]
    url: str | None  # scheme://host[:port] without a slash at the end
    operator_listen: tuple[Listen, ...]
    tls_cert: Path | None
    tls_key: Path | None
    trusted_proxies: tuple[Network, ...]
    metrics_from: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Radius:
    """[radius]: the UDP server."""

    auth: tuple[Listen, ...]
    acct: tuple[Listen, ...]


@dataclass(frozen=True, slots=True)
class Backhaul:
    """[backhaul]: how the node knows whether the link works."""

    probes: tuple[str, ...]  # "host:port" (a TCP connection) or an http(s) URL (any answer)


@dataclass(frozen=True, slots=True)
class Privacy:
    """[privacy]: how long the node knows who it was."""

    personal_days: int
    complaint_days: int
    session_months: int
    """How long single sessions are kept."""


@dataclass(frozen=True, slots=True)
class Hub:
    """[hub]: where usage records go."""

    url: str | None
    proxy: str | None = field(repr=False)  # http://[user:password@]host:port
    interval_s: int


@dataclass(frozen=True, slots=True)
class Database:
    """[database]: where a hub keeps its data; a node always uses SQLite in its directory."""

    # "sqlite" or "postgresql://..."; it may hold a password, so it stays out of any repr.
    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Backup:
    """[backup]: the backup of every night."""

    directory: Path | None

    def place(self, directory: Path) -> Path:
        """Where those of a node or hub in `directory` lie."""
        return directory / (self.directory or "backups")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set, read and checked."""

    http: Http
    radius: Radius
    backhaul: Backhaul
    privacy: Privacy
    hub: Hub
    database: Database
    backup: Backup


_BY_NAME = {setting.name: setting for setting in TABLE}
_SECTIONS = tuple(dict.fromkeys(setting.section for setting in TABLE))


# --- reading


def _shown(value: object) -> str:
    """A value for a sentence: quoted when text, shortened when long."""
    text = f'"{value}"' if isinstance(value, str) else str(value)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= 80 else text[:77] + "..."


def _similar(name: str, names: tuple[str, ...] | list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _read_file(path: Path) -> dict[str, object]:
    """The file's values by section.key; {} when there is no file."""
    try:
        with path.open("rb") as file:
            tree = tomllib.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
    values: dict[str, object] = {}
    for section, entries in tree.items():
        if section not in _SECTIONS or not isinstance(entries, dict):
            seen = f"[{section}]" if isinstance(entries, dict) else section
            raise SettingsError(
                f"{path} has {seen}; expected the sections "
                + ", ".join(f"[{known}]" for known in _SECTIONS)
                + _similar(section, _SECTIONS)
            )
        keys = [setting.key for setting in TABLE if setting.section == section]
        for key, value in entries.items():
            if key not in keys:
                raise SettingsError(
                    f"{path} has the unknown key {section}.{key}; expected one of "
                    + ", ".join(keys)
                    + _similar(key, keys)
                )
            values[f"{section}.{key}"] = value
    return values


def _from_text(setting: Setting, text: str) -> object:
    """A value out of the environment: a TOML array where one may stand, else plain text."""
    if setting.is_list and text.lstrip().startswith("["):
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            # "[::]:8080" is no array but an address.
            return text
    return text


def _read_environment(environ: Mapping[str, str]) -> dict[str, object]:
    """The values given in the environment by section.key."""
    known: dict[str, tuple[Setting, bool]] = {}
    for setting in TABLE:
        known[setting.variable] = (setting, False)
        if setting.is_secret:
            known[setting.variable + "_FILE"] = (setting, True)
    sections = tuple(f"{PREFIX}{section}_".upper() for section in _SECTIONS)
    values: dict[str, object] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable in COMMAND_VARIABLES:
            continue
        if variable not in known:
            # Other programs may set variables with our name before them (container links do), so
            # only one of our sections, or a misspelt setting, is taken for a mistake.
            close = difflib.get_close_matches(variable, list(known), n=1, cutoff=0.85)
            if not close and not variable.startswith(sections):
                continue
            hint = close[0] if close else "one of the variables in docs/settings.md"
            raise SettingsError(f"{variable} is set but is no setting; expected {hint}")
        setting, is_file = known[variable]
        if is_file:
            if setting.variable in environ:
                raise SettingsError(
                    f"{setting.variable} and {variable} are both set; expected one of them"
                )
            try:
                text = Path(text).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise SettingsError(
                    f'{variable} is "{text}", which cannot be read: {error.strerror}'
                ) from None
            except UnicodeDecodeError:
                raise SettingsError(f'{variable} is "{text}"; expected a text file') from None
        values[setting.name] = _from_text(setting, text)
    return values


def _parse(setting: Setting, raw: object, origin: str) -> Any:
    try:
        return setting.parse(raw)
    except BadValue as bad:
        seen = "a value not shown here" if setting.is_secret else _shown(bad.seen)
        name = setting.variable if origin == "environment" else setting.name
        raise SettingsError(f"{name} is {seen}; expected {setting.expected}") from None


def _origins(directory: Path, environ: Mapping[str, str]) -> dict[str, tuple[object, str]]:
    """Every setting's raw value and where it comes from: "default", the file, "environment"."""
    values: dict[str, tuple[object, str]] = {
        setting.name: (setting.default, "default") for setting in TABLE
    }
    for name, raw in _read_file(directory / FILE_NAME).items():
        values[name] = (raw, FILE_NAME)
    for name, raw in _read_environment(environ).items():
        values[name] = (raw, "environment")
    return values


def load(directory: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Read and check the settings of `directory` (without a file: the defaults).

    Raises SettingsError with one plain sentence for the first thing that is wrong.
    """
    environ = os.environ if environ is None else environ
    values = {
        name: _parse(_BY_NAME[name], raw, origin)
        for name, (raw, origin) in _origins(directory, environ).items()
    }

    def section(name: str) -> dict[str, Any]:
        return {s.key: values[s.name] for s in TABLE if s.section == name}

    http = section("http")
    for key in ("tls_cert", "tls_key"):
        if http[key] is not None:
            http[key] = _readable(f"http.{key}", directory / http[key])
    hub = section("hub")
    settings = Settings(
        http=Http(**http),
        radius=Radius(**section("radius")),
        backhaul=Backhaul(**section("backhaul")),
        privacy=Privacy(**section("privacy")),
        hub=Hub(hub["url"], hub["proxy"], hub["interval"]),
        database=Database(**section("database")),
        backup=Backup(**section("backup")),
    )
    _check_together(settings)
    return settings


def load_for_node(directory: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Like `load`, for a node: what only a hub can do is refused, not quietly left out."""
    settings = load(directory, environ)
    if settings.database.url != "sqlite":
        raise SettingsError(
            'database.url is set to a server; expected "sqlite": a node keeps its data in its '
            "directory"
        )
    return settings


def load_for_hub(directory: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Like `load`, for a hub: what only a node can do is refused."""
    settings = load(directory, environ)
    if settings.hub.url is not None:
        raise SettingsError(
            f"hub.url is {_shown(settings.hub.url)}; expected none in a hub's directory: it is"
            " where a node sends its records"
        )
    return settings


def database_url_of(directory: Path, environ: Mapping[str, str] | None = None) -> str:
    """Where a hub keeps its data, by the settings of `directory`, the others unread."""
    environ = os.environ if environ is None else environ
    name = "database.url"
    return str(_parse(_BY_NAME[name], *_origins(directory, environ)[name]))


def _readable(name: str, path: Path) -> Path:
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise SettingsError(
            f'{name} is "{path}"; expected a file that can be read ({error.strerror})'
        ) from None


def _check_together(settings: Settings) -> None:
    """What no single setting can tell."""
    http = settings.http
    if (http.tls_cert is None) != (http.tls_key is None):
        missing, given = ("tls_cert", "tls_key") if http.tls_key else ("tls_key", "tls_cert")
        raise SettingsError(f"http.{given} is set and http.{missing} is not; expected both or none")
    for name, entries in (("listen", http.listen), ("operator_listen", http.operator_listen)):
        for entry in entries:
            if entry.is_tls and http.tls_cert is None:
                raise SettingsError(
                    f'http.{name} has "{entry}"; expected http.tls_cert and http.tls_key with it'
                )
    for first, second, entries, others in (
        ("http.listen", "http.operator_listen", http.listen, http.operator_listen),
        ("radius.auth", "radius.acct", settings.radius.auth, settings.radius.acct),
    ):
        for entry in entries:
            if entry.port and entry.address in [other.address for other in others]:
                raise SettingsError(
                    f'{first} and {second} both have "{entry.address}"; expected different ports'
                )


# --- showing


@dataclass(frozen=True, slots=True)
class Shown:
    """A setting as it may be shown to people."""

    name: str
    value: str  # TOML; a secret is masked
    origin: str  # "default", "pesisir.toml" or "environment"


def describe(
    directory: Path, environ: Mapping[str, str] | None = None, *, is_hub: bool = False
) -> list[Shown]:
    """Every setting in force, of a hub every one it reads, in the table's order, secrets masked,
    for `pesisir check`."""
    environ = os.environ if environ is None else environ
    shown = []
    for name, (raw, origin) in _origins(directory, environ).items():
        if is_hub and not is_a_hubs(_BY_NAME[name]):
            continue
        is_hidden = _BY_NAME[name].is_secret and raw != _BY_NAME[name].default
        shown.append(Shown(name, "(hidden)" if is_hidden else toml_text(raw), origin))
    return shown


def toml_text(raw: object) -> str:
    """A value as it is written in the file."""
    if isinstance(raw, list):
        return "[" + ", ".join(toml_text(entry) for entry in raw) + "]"
    if isinstance(raw, str):
        return '"' + raw.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(raw)


def file_text(values: Mapping[str, str | list[str]] | None = None, *, is_hub: bool = False) -> str:
    """The text of a new pesisir.toml: every key, of a hub every one it reads, with its meaning and
    default as a comment, and those in `values` (by section.key) set.
    """
    values = {} if values is None else values
    lines = [
        "# Settings of Pesisir. Every key is explained in docs/settings.md; a line that",
        "# begins with # shows a default. PESISIR_<SECTION>_<KEY> in the environment comes first.",
    ]
    table = [setting for setting in TABLE if not is_hub or is_a_hubs(setting)]
    for section in dict.fromkeys(setting.section for setting in table):
        lines += ["", f"[{section}]"]
        for setting in table:
            if setting.section == section:
                meaning = (AT_A_HUB if is_hub else {}).get(setting.name, setting.meaning)
                lines.append(f"# {meaning.split('. ')[0].rstrip('.')}.")
                if setting.name in values:
                    lines.append(f"{setting.key} = {toml_text(values[setting.name])}")
                else:
                    lines.append(f"# {setting.key} = {toml_text(setting.default)}")
    return "\n".join(lines) + "\n"
