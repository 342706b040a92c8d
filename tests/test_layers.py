"""The plan of the house (docs: design, section 3), held as a table and checked on the source.

A new module of `portal/` gets its line in LAYERS; what a layer may import is in MAY_IMPORT. Nothing
is imported here: modules are read with `ast`, so that a module that cannot be imported is checked
as well.
"""

import ast
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch, fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the bottom up. A name with `*` stands for all modules it fits.
LAYERS: dict[str, tuple[str, ...]] = {
    "domain": ("portal.domain", "portal.domain.*"),
    "protocol": ("radius", "radius.*"),
    "neutral": ("portal", "portal.compiled", "portal.errors", "portal.resources"),
    "storage": ("portal.store", "portal.store.*"),
    "use case": (
        "portal.aaa",
        "portal.accounting",
        "portal.accounts",
        "portal.admin",
        "portal.audit",
        "portal.alerts",
        "portal.attempts",
        "portal.cards",
        "portal.cards.*",
        "portal.captivity",
        "portal.certificates",
        "portal.class_attribute",
        "portal.commit",
        "portal.complaints",
        "portal.data_counting",
        "portal.devices",
        "portal.disconnects",
        "portal.doctor",
        "portal.doctor.*",
        "portal.door",
        "portal.enrolment",
        "portal.grants",
        "portal.guest_networks",
        "portal.health",
        "portal.history",
        "portal.hub",
        "portal.hub.*",
        "portal.keys",
        "portal.ledger",
        "portal.ledger_hours",
        "portal.ledger_export",
        "portal.link_watch",
        "portal.misses",
        "portal.opennds",
        "portal.opennds.*",
        "portal.operators",
        "portal.notices",
        "portal.online",
        "portal.overview",
        "portal.passwords",
        "portal.place_values",
        "portal.phones",
        "portal.policy",
        "portal.policy_contents",
        "portal.pseudonyms",
        "portal.printing",
        "portal.renewals",
        "portal.reports",
        "portal.retention",
        "portal.review",
        "portal.sealing",
        "portal.sessions",
        "portal.sign_in_misses",
        "portal.signed_requests",
        "portal.signing",
        "portal.sheets",
        "portal.sheets.*",
        "portal.sync",
        "portal.sync.*",
        "portal.tickets",
        "portal.trace",
        "portal.vouchers",
        "portal.walled_garden",
        "portal.wire",
    ),
    "settings": ("portal.settings", "portal.setting_table", "portal.setting_values"),
    # A gateway's configuration is a page too, only that a gateway reads it.
    "page": ("portal.web", "portal.web.*", "portal.gateway_config", "portal.recovery_sheet"),
    # Build everything once; with them the socket by which the command line reaches a running node.
    "root": (
        "portal.archives",
        "portal.backups",
        "portal.cold_spare",
        "portal.commands",
        "portal.control",
        "portal.control_server",
        "portal.demo",
        "portal.demo_hub",
        "portal.desk_listeners",
        "portal.directories",
        "portal.followed",
        "portal.http_connections",
        "portal.http_listeners",
        "portal.hub_process",
        "portal.hub_process.*",
        "portal.hub_side",
        "portal.logs",
        "portal.metrics",
        "portal.node",
        "portal.node_clock",
        "portal.practice",
        "portal.practice.*",
        "portal.serve",
        "portal.served_address",
        "portal.serve_hub",
        "portal.served_certificate",
        "portal.sync_commands",
    ),
    "command line": ("portal.cli", "portal.cli.*"),
}

_BELOW_PAGES = {"domain", "protocol", "neutral", "storage", "use case", "settings"}
MAY_IMPORT: dict[str, set[str]] = {
    "domain": {"domain"},
    "protocol": {"protocol"},
    "neutral": {"neutral"},
    "storage": {"storage", "domain", "neutral"},
    "use case": {"use case", "storage", "protocol", "domain", "neutral"},
    "settings": {"settings", "domain", "neutral"},
    "page": {"page"} | _BELOW_PAGES,
    "root": {"root", "page"} | _BELOW_PAGES,
    "command line": set(LAYERS),
}

# Libraries with one home: library -> the modules that may import it.
HOMES: dict[str, tuple[str, ...]] = {
    "pyrad": ("radius", "radius.*", "portal.practice.*"),
    "sqlite3": ("portal.store.db", "portal.store.db.*"),
    "aiosqlite": ("portal.store.db", "portal.store.db.*"),
    "asyncpg": ("portal.store.db.postgres",),
    "qrcode": ("portal.printing",),
}

# Time, randomness and the world outside are arguments: read once at the door.
_CLOCK_AND_DICE = {"time", "random", "secrets"}
NOT_FOR: dict[str, set[str]] = {
    "domain": _CLOCK_AND_DICE
    | {"asyncio", "importlib", "io", "logging", "os", "pathlib", "socket", "sqlite3", "subprocess"}
    | {"sys", "tempfile", "threading", "uuid"},
    "use case": _CLOCK_AND_DICE | {"click", "jinja2", "starlette", "uvicorn"},
    "storage": {"click", "jinja2", "starlette", "uvicorn"},
    "protocol": {"click", "jinja2", "starlette", "uvicorn"},
}
NO_CLOCK_CALLS = {"domain", "use case"}
NOT_CALLED_IN_DOMAIN = {"open", "print", "input", "exec", "eval", "__import__"}

NAMES_THAT_SAY_NOTHING = {"utils", "helpers", "common", "models"}
MOST_LINES = 600
_SQL = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|REPLACE|PRAGMA|BEGIN IMMEDIATE)\b"
)

TOP_LEVEL = {"portal", "radius", "templates", "static", "hotspot_config", "tests"}
TOP_LEVEL |= {"pyproject.toml", "README.md"}
TOP_LEVEL_BESIDE = {"Makefile", "docs", "CHANGELOG.md", "LICENSE"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {
    module_name(path): path
    for package in ("portal", "radius")
    for path in sorted((ROOT / package).rglob("*.py"))
    if "_data" not in path.relative_to(ROOT).parts
}
PACKAGES = {name for name, path in PATHS.items() if path.name == "__init__.py"}


def fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def layer_of(name: str) -> str | None:
    return next((layer for layer, patterns in LAYERS.items() if fits(name, patterns)), None)


def imported(name: str, node: ast.Import | ast.ImportFrom, is_package: bool) -> list[str]:
    """Return the full names a statement of module `name` imports; of ours, the modules."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        parts = name.split(".")
        parts = parts[: len(parts) - node.level + is_package]
        base = ".".join([*parts, base] if base else parts)
    if base.split(".")[0] not in ("portal", "radius"):
        return [base]
    submodules = [f"{base}.{alias.name}" for alias in node.names]
    return [module if is_module(module) else base for module in submodules]


def is_module(name: str) -> bool:
    """Tell whether a dotted name is a module of ours and not something inside one.

    What a table names counts although the file does not exist (yet).
    """
    return name in PATHS or any(name in patterns for patterns in LAYERS.values())


def violations(name: str, source: str, is_package: bool = False) -> Iterator[str]:
    """Yield a sentence for each rule that the source of module `name` breaks."""
    layer = layer_of(name)
    if layer is None:
        yield (
            f"{name} is in no layer; expected a line for it in LAYERS of tests/test_layers.py,"
            " in the lowest layer whose rules it can keep"
        )
        return
    if NAMES_THAT_SAY_NOTHING & set(name.split(".")):
        yield f"{name} has a name that says nothing; expected what it holds"
    lines = source.count("\n")
    if lines > MOST_LINES:
        yield f"{name} has {lines} lines; expected at most {MOST_LINES}: look for the second idea"
    tree = ast.parse(source)
    if not ast.get_docstring(tree):
        yield f"{name} has no docstring; expected what it holds and what it must not know"
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for target in imported(name, node, is_package):
                for complaint in _about_import(name, layer, target):
                    yield f"{name}:{node.lineno} {complaint}"
        elif isinstance(node, ast.Call):
            for complaint in _about_call(layer, node.func):
                yield f"{name}:{node.lineno} {complaint}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if layer != "storage" and _SQL.match(node.value):
                yield f"{name}:{node.lineno} holds SQL; expected all SQL in portal/store"


def _about_import(name: str, layer: str, target: str) -> Iterator[str]:
    top = target.split(".")[0]
    if top in ("portal", "radius"):
        other = layer_of(target)
        if other is None:
            yield f"imports {target}, which is in no layer of tests/test_layers.py"
        elif other not in MAY_IMPORT[layer]:
            allowed = ", ".join(sorted(MAY_IMPORT[layer]))
            yield f"imports {target} ({other}); a {layer} module may import: {allowed}"
        return
    if top in HOMES and not fits(name, HOMES[top]):
        yield f"imports {top}; expected only in {', '.join(HOMES[top])}"
    if top in NOT_FOR.get(layer, set()):
        yield f"imports {top}; a {layer} module gets such things as arguments or not at all"
    elif layer == "domain" and top not in sys.stdlib_module_names:
        yield f"imports {top}; a domain module imports the standard library only"


def _about_call(layer: str, called: ast.expr) -> Iterator[str]:
    if layer == "domain" and isinstance(called, ast.Name) and called.id in NOT_CALLED_IN_DOMAIN:
        yield f"calls {called.id}; a domain module does no I/O"
    if (
        layer in NO_CLOCK_CALLS
        and isinstance(called, ast.Attribute)
        and called.attr in ("now", "today", "utcnow")
        and ast.unparse(called.value).split(".")[-1] in ("date", "datetime")
    ):
        yield f"calls {ast.unparse(called)}; time is an argument of a {layer} module"


# --- our modules


@pytest.mark.parametrize("name", PATHS)
def test_module_keeps_the_rules(name: str) -> None:
    source = PATHS[name].read_text("utf-8")
    assert list(violations(name, source, name in PACKAGES)) == []


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {name: set(_runtime_imports(name)) for name in PATHS}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for target in sorted(graph.get(name, set()) - {name}):
                visit(target, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def _runtime_imports(name: str) -> Iterator[str]:
    """Yield what a module imports while it is imported itself."""
    for node in ast.parse(PATHS[name].read_text("utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imported(name, node, name in PACKAGES)


def test_no_test_has_a_name_that_says_nothing() -> None:
    names = {path.stem for path in (ROOT / "tests").rglob("*.py")}
    assert names & NAMES_THAT_SAY_NOTHING == set()


def test_sql_files_are_in_the_store_only() -> None:
    places = {
        path.parent.relative_to(ROOT).as_posix()
        for package in ("portal", "radius")
        for path in (ROOT / package).rglob("*.sql")
    }
    assert places <= {"portal/store/migrations", "portal/store/migrations/hub"}


def test_top_level_holds_what_the_design_names_and_nothing_else() -> None:
    lines = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    ignored = [line.strip("/") for line in lines if line and not line.startswith("#")]
    names = {
        path.name
        for path in ROOT.iterdir()
        if not path.name.startswith(".")
        and not any(fnmatch(path.name, pattern) for pattern in ignored)
    }
    assert names - TOP_LEVEL - TOP_LEVEL_BESIDE == set()
    assert TOP_LEVEL - names == set()


# --- the checker itself


@pytest.mark.parametrize(
    ("name", "code", "complaint"),
    [
        ("portal.domain.quota", "import portal.store.db", "imports portal.store.db (storage)"),
        ("portal.domain.quota", "from portal.store import db", "imports portal.store"),
        ("portal.domain.quota", "from ..store import db", "imports portal.store"),
        ("portal.domain.quota", "from radius import packet", "imports radius.packet (protocol)"),
        ("portal.domain.quota", "from portal.errors import UserError", "portal.errors (neutral)"),
        ("portal.domain.quota", "import msgspec", "the standard library only"),
        ("portal.domain.quota", "from os.path import join", "imports os"),
        ("portal.domain.quota", "def f():\n    import time", ":3 imports time"),
        ("portal.domain.quota", "import random as r", "imports random"),
        ("portal.domain.quota", "n = datetime.now(UTC)", "calls datetime.now"),
        ("portal.domain.quota", "n = datetime.date.today()", "calls datetime.date.today"),
        ("portal.domain.quota", "open('x')", "calls open"),
        ("portal.store.node", "from portal.aaa import Reason", "imports portal.aaa (use case)"),
        ("portal.store.node", "import sqlite3", "expected only in portal.store.db"),
        ("portal.store.node", "import radius", "imports radius (protocol)"),
        ("radius.server", "import portal", "imports portal (neutral)"),
        ("radius.nas.coova", "from portal.domain import hours", "portal.domain.hours (domain)"),
        ("portal.aaa", "from portal.web import text", "imports portal.web.text (page)"),
        ("portal.aaa", "from portal import serve", "imports portal.serve (root)"),
        ("portal.aaa", "from . import cli", "imports portal.cli (command line)"),
        ("portal.aaa", "import secrets", "imports secrets"),
        ("portal.aaa", "from starlette.requests import Request", "imports starlette"),
        ("portal.aaa", "from pyrad.packet import Packet", "imports pyrad; expected only in"),
        ("portal.vouchers", "import qrcode.image.svg", "expected only in portal.printing"),
        ("portal.web.resident", "import portal.node", "imports portal.node (root)"),
        ("portal.web.resident", "x = 'SELECT 1'", "holds SQL"),
        ("portal.web.resident", "x = f'''\n  UPDATE t SET a = {1}'''", "holds SQL"),
        ("portal.serve", "from portal import cli", "imports portal.cli (command line)"),
        ("portal.cli", "from portal.gadgets import x", "imports portal.gadgets"),
        ("portal.store.utils", "", "a name that says nothing"),
        ("portal.gadgets", "", "portal.gadgets is in no layer; expected a line for it in LAYERS"),
        ("portal.aaa", "\n" * MOST_LINES, "601 lines; expected at most 600"),
    ],
)
def test_a_broken_rule_is_found(name: str, code: str, complaint: str) -> None:
    found = list(violations(name, f'"""Doc."""\n{code}'))
    assert len(found) == 1
    assert complaint in found[0]


def test_a_missing_docstring_is_found() -> None:
    assert ["has no docstring" in found for found in violations("portal.aaa", "x = 1")] == [True]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("portal.domain.quota", "from portal.domain.hours import window_at\nimport datetime"),
        ("portal.domain.quota", "def f(now):\n    return now()"),
        ("portal.store.node", "from portal.domain.session import Session\nx = 'SELECT 1'"),
        ("portal.store.db", "import sqlite3, aiosqlite"),
        ("portal.aaa", "from portal.store.node import NodeStore\nfrom radius.nas import family"),
        ("portal.aaa", "x = 'Selected: created by hand'"),
        ("portal.web.resident", "from portal.store.node import NodeStore\nimport starlette"),
        ("portal.serve", "from portal.web import resident\nimport time"),
        ("portal.cli", "from portal import serve, control\nimport os"),
        ("portal.practice.gateway", "import pyrad.client"),
        ("radius.client", "from pyrad.dictionary import Dictionary"),
    ],
)
def test_a_kept_rule_is_not_complained_about(name: str, code: str) -> None:
    assert list(violations(name, f'"""Doc."""\n{code}')) == []


def test_a_module_has_one_layer_and_every_layer_its_rule() -> None:
    assert set(MAY_IMPORT) == set(LAYERS)
    for name in PATHS:
        assert sum(fits(name, patterns) for patterns in LAYERS.values()) <= 1
