"""FreeRADIUS doing the same job: a configuration of its own in a temporary directory.

Debian's packages and Debian's SQL schemas and queries, tuned where the stock settings would lose
packets or answer wrongly (`docs/performance.md` says what and why): SQLite in WAL mode with a
busy timeout of 2 s, PostgreSQL with the two indexes its schema lacks, the daily counter and the
Simultaneous-Use query of SQLite corrected. 10,000 vouchers with PAP and group checks: daily time,
monthly data, Simultaneous-Use 1; accounting to SQL; 16 threads with one SQL connection each; no
log of logins.
"""

import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

THREADS = 16
_STOCK = Path("/etc/freeradius/3.0/mods-config/sql/main")
_DAY_S = 86_400
_MONTH_OCTETS = 2_000_000_000
_POSTGRES_USER = "postgres"

_RADIUSD = """
prefix = /usr
localstatedir = {dir}
logdir = {dir}
raddbdir = {dir}
radacctdir = {dir}
run_dir = {dir}
db_dir = {dir}
libdir = {libdir}
pidfile = {dir}/radiusd.pid
name = freeradius
confdir = {dir}
modconfdir = {dir}
max_request_time = 30
cleanup_delay = 5
max_requests = 16384
hostname_lookups = no
log {{
    destination = files
    file = {dir}/radius.log
    auth = no
}}
security {{
    max_attributes = 200
    reject_delay = 1
    status_server = yes
}}
proxy_requests = no
thread pool {{
    start_servers = {threads}
    max_servers = {threads}
    min_spare_servers = {threads}
    max_spare_servers = {threads}
    max_requests_per_server = 0
    auto_limit_acct = no
}}
client bench {{
    ipaddr = 127.0.0.1
    secret = {secret}
    require_message_authenticator = no
    limit {{
        max_connections = 0
    }}
}}
modules {{
    expr {{
    }}
    pap {{
        normalise = yes
    }}
    sql {{
        dialect = "{dialect}"
        driver = "rlm_sql_{dialect}"
        {connection}
        radius_db = "{database}"
        acct_table1 = "radacct"
        acct_table2 = "radacct"
        postauth_table = "radpostauth"
        authcheck_table = "radcheck"
        groupcheck_table = "radgroupcheck"
        authreply_table = "radreply"
        groupreply_table = "radgroupreply"
        usergroup_table = "radusergroup"
        client_table = "nas"
        group_attribute = "SQL-Group"
        read_groups = yes
        read_profiles = no
        delete_stale_sessions = yes
        pool {{
            start = {threads}
            min = {threads}
            max = {threads}
            spare = 0
            uses = 0
            retry_delay = 30
            lifetime = 0
            idle_timeout = 0
        }}
        $INCLUDE {dir}/queries.conf
    }}
    sqlcounter dailytime {{
        sql_module_instance = sql
        dialect = {dialect}
        counter_name = Daily-Session-Time
        check_name = Max-Daily-Session
        reply_name = Session-Timeout
        key = User-Name
        reset = daily
        query = "{daily}"
    }}
    sqlcounter monthlydata {{
        sql_module_instance = sql
        dialect = {dialect}
        counter_name = Monthly-Octets
        check_name = Max-Monthly-Octets
        reply_name = Bench-Octets-Left
        key = User-Name
        reset = monthly
        query = "{monthly}"
    }}
}}
instantiate {{
    sql
    dailytime
    monthlydata
}}
policy {{
    acct_unique {{
        if ("%{{string:&Class}}" =~ /^ai:([0-9a-f]{{32}})/i) {{
            update request {{
                &Acct-Unique-Session-Id := "%{{md5:%{{1}},%{{Acct-Session-ID}}}}"
            }}
        }}
        else {{
            update request {{
                &Acct-Unique-Session-Id := "%{{md5:%{{User-Name}},%{{Acct-Session-ID}},\
%{{%{{NAS-IPv6-Address}}:-%{{NAS-IP-Address}}}},%{{NAS-Identifier}},%{{NAS-Port-ID}},\
%{{NAS-Port}}}}"
            }}
        }}
    }}
}}
server default {{
    listen {{
        type = auth
        ipaddr = 127.0.0.1
        port = {auth_port}
        recv_buff = 2097152
    }}
    listen {{
        type = acct
        ipaddr = 127.0.0.1
        port = {acct_port}
        recv_buff = 2097152
    }}
    authorize {{
        sql
        dailytime
        monthlydata
        pap
    }}
    authenticate {{
        Auth-Type PAP {{
            pap
        }}
    }}
    preacct {{
        acct_unique
    }}
    accounting {{
        sql
    }}
    session {{
        sql
    }}
    post-auth {{
        update reply {{
            &Class := "ai:%{{md5:%t,%I,%{{Packet-Src-Port}},%{{Packet-Src-IP-Address}},\\
%{{NAS-IP-Address}},%{{Calling-Station-ID}},%{{User-Name}}}}"
        }}
    }}
}}
"""

_DICTIONARY = """ATTRIBUTE Max-Monthly-Octets 3100 integer64
ATTRIBUTE Bench-Octets-Left 3101 integer64
"""

_SQLITE_DAILY = (
    "SELECT SUM(acctsessiontime - MAX(%%b - acctstarttime, 0)) FROM radacct"
    " WHERE username = '%{User-Name}' AND acctstarttime + acctsessiontime > %%b"
)
_SQLITE_MONTHLY = (
    "SELECT SUM(acctinputoctets + acctoutputoctets) FROM radacct"
    " WHERE username = '%{User-Name}' AND acctstarttime + acctsessiontime > %%b"
)
_POSTGRES_DAILY = (
    "SELECT SUM(AcctSessionTime - GREATEST((%%b - EXTRACT(epoch FROM AcctStartTime)), 0))"
    " FROM radacct WHERE UserName = '%{User-Name}'"
    " AND EXTRACT(epoch FROM AcctStartTime) + AcctSessionTime > '%%b'"
)
_POSTGRES_MONTHLY = (
    "SELECT SUM(AcctInputOctets + AcctOutputOctets) FROM radacct"
    " WHERE UserName = '%{User-Name}'"
    " AND EXTRACT(epoch FROM AcctStartTime) + AcctSessionTime > '%%b'"
)
_CHECKS = (
    ("Max-Daily-Session", ":=", str(_DAY_S)),
    ("Max-Monthly-Octets", ":=", str(_MONTH_OCTETS)),
    ("Simultaneous-Use", ":=", "1"),
)
_REPLIES = (("Acct-Interim-Interval", ":=", "300"), ("Idle-Timeout", ":=", "900"))


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """A port that is free now, UDP or (SOCK_STREAM) TCP."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _module_directory() -> Path | None:
    for directory in (Path("/usr/lib/freeradius"), Path("/usr/lib64/freeradius")):
        if (directory / "rlm_sql_sqlite.so").exists():
            return directory
    return None


def missing(dialect: str) -> str | None:
    """What is not installed for this database, or None when everything is."""
    if not shutil.which("freeradius", path="/usr/sbin:" + os.defpath):
        return "package freeradius is not installed"
    if _module_directory() is None or not (_STOCK / dialect).is_dir():
        return "package freeradius-config is not installed"
    if dialect == "postgresql":
        directory = _module_directory()
        if directory is None or not (directory / "rlm_sql_postgresql.so").exists():
            return "package freeradius-postgresql is not installed"
        if postgres_programs() is None:
            return "package postgresql is not installed"
    return None


def postgres_programs() -> Path | None:
    """The directory with initdb and postgres of the newest server installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def write_configuration(
    directory: Path, dialect: str, secret: str, auth_port: int, acct_port: int, connection: str
) -> None:
    """Write radiusd.conf, queries.conf and a dictionary into the directory."""
    queries = (_STOCK / dialect / "queries.conf").read_text()
    if dialect == "sqlite":
        queries = queries.replace(
            "WHERE username = '%{${group_attribute}}' \\\n\tAND acctstoptime IS NULL",
            "WHERE username = '%{SQL-User-Name}' \\\n\tAND acctstoptime IS NULL",
        )
    (directory / "queries.conf").write_text(queries)
    (directory / "dictionary").write_text(_DICTIONARY)
    (directory / "radiusd.conf").write_text(
        _RADIUSD.format(
            dir=directory,
            libdir=_module_directory(),
            threads=THREADS,
            secret=secret,
            dialect=dialect,
            connection=connection,
            database=directory / "radius.db" if dialect == "sqlite" else "radius",
            daily=_SQLITE_DAILY if dialect == "sqlite" else _POSTGRES_DAILY,
            monthly=_SQLITE_MONTHLY if dialect == "sqlite" else _POSTGRES_MONTHLY,
            auth_port=auth_port,
            acct_port=acct_port,
        )
    )


def _rows(codes: Sequence[str]) -> list[tuple[str, list[tuple[str, ...]]]]:
    return [
        (
            "radcheck (username, attribute, op, value)",
            [(code, "Cleartext-Password", ":=", code) for code in codes],
        ),
        ("radusergroup (username, groupname, priority)", [(code, "harian", "1") for code in codes]),
        (
            "radgroupcheck (groupname, attribute, op, value)",
            [("harian", *check) for check in _CHECKS],
        ),
        (
            "radgroupreply (groupname, attribute, op, value)",
            [("harian", *reply) for reply in _REPLIES],
        ),
    ]


def fill_sqlite(path: Path, codes: Sequence[str]) -> None:
    """Create the database in WAL mode with the vouchers in it."""
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript((_STOCK / "sqlite" / "schema.sql").read_text())
        for target, rows in _rows(codes):
            marks = ", ".join("?" * len(rows[0]))
            database.executemany(f"INSERT INTO {target} VALUES ({marks})", rows)
    database.close()


def start_postgres(directory: Path, codes: Sequence[str]) -> tuple[subprocess.Popen[bytes], int]:
    """A PostgreSQL cluster of its own under the directory, filled; the process and its port.

    Its settings are the defaults of initdb (fsync and synchronous_commit on). It refuses to run
    as root, so root hands it to the user the package made.
    """
    programs = postgres_programs()
    if programs is None:
        raise RuntimeError("no PostgreSQL server found, expected /usr/lib/postgresql/*/bin")
    cluster = directory / "pg"
    cluster.mkdir(mode=0o700)
    user: str | None = None
    if os.geteuid() == 0:
        user = _POSTGRES_USER
        owner = pwd.getpwnam(user)
        os.chown(cluster, owner.pw_uid, owner.pw_gid)
        directory.chmod(0o711)
    port = free_port(socket.SOCK_STREAM)
    subprocess.run(
        [programs / "initdb", "-D", cluster, "-A", "trust", "-U", "radius", "-E", "UTF8"],
        check=True,
        stdout=subprocess.DEVNULL,
        user=user,
        cwd=cluster,
    )
    log = directory / "postgres.log"
    server = subprocess.Popen(
        [str(programs / "postgres"), "-D", str(cluster), "-p", str(port), "-k", str(cluster)]
        + ["-c", "listen_addresses=127.0.0.1", "-c", "logging_collector=off"],
        stdout=subprocess.DEVNULL,
        stderr=log.open("wb"),
        user=user,
        cwd=cluster,
    )
    psql = [str(programs / "psql"), "-q", "-v", "ON_ERROR_STOP=1"]
    psql += ["-h", "127.0.0.1", "-p", str(port), "-U", "radius"]
    ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "10"]
    for _ in range(100):
        if not subprocess.run(ready, check=False).returncode:
            break
        if server.poll() is not None:
            raise RuntimeError("PostgreSQL did not start: " + log.read_text())
        time.sleep(0.1)
    subprocess.run([*psql, "-d", "postgres", "-c", "CREATE DATABASE radius"], check=True)
    script = [(_STOCK / "postgresql" / "schema.sql").read_text()]
    script.append("CREATE INDEX bench_user ON radacct (UserName, AcctStartTime);")
    script.append("CREATE INDEX bench_open ON radacct (UserName) WHERE AcctStopTime IS NULL;")
    for target, rows in _rows(codes):
        values = ",\n".join("(" + ", ".join(f"'{value}'" for value in row) + ")" for row in rows)
        script.append(f"INSERT INTO {target} VALUES {values};")
    script.append("ANALYZE;")
    text = "\n".join(script).encode()
    subprocess.run([*psql, "-d", "radius"], input=text, check=True, stdout=subprocess.DEVNULL)
    return server, port


def start(directory: Path) -> subprocess.Popen[bytes]:
    """Start the server on the configuration written before; its log is DIR/radius.log."""
    program = shutil.which("freeradius", path="/usr/sbin:" + os.defpath)
    if program is None:
        raise RuntimeError("freeradius not found, expected in /usr/sbin")
    return subprocess.Popen(
        [program, "-f", "-d", str(directory), "-n", "radiusd"],
        stdout=(directory / "freeradius.out").open("wb"),
        stderr=subprocess.STDOUT,
    )
