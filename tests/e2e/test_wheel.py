"""The wheel alone: installed away from the checkout, it makes a node that serves residents."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.e2e.command import SETTINGS, RunningNode, environment

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; the test fails with its complaint when it does not succeed."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from the source archive as `python -m build` does by default."""
    place = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", place, ROOT, cwd=place)
    (found,) = place.glob("pesisir-*.whl")
    return found


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pesisir` in a virtual environment of its own, which borrows the other packages of ours."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet"),
        *("--no-deps", "--no-index", wheel),
        cwd=place,
    )
    own = place / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
    assert (own / "portal").is_dir()
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    # A .pth file behind it is not read, so the editable package of the checkout stays unknown.
    (own / "borrowed.pth").write_text("\n".join(borrowed) + "\n", encoding="utf-8")
    return place / "bin" / "pesisir"


def test_the_wheel_holds_what_the_program_needs_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"portal", "radius"}
    for folder in ("templates", "static", "hotspot_config"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file():
                assert f"portal/_data/{path.relative_to(ROOT)}" in names
    for path in (ROOT / "portal" / "store" / "migrations").glob("*.sql"):
        assert str(path.relative_to(ROOT)) in names


def test_an_installed_wheel_makes_and_runs_a_node(program: Path, tmp_path: Path) -> None:
    python = program.with_name("python")
    package = run(python, "-c", "import portal; print(portal.__file__)", cwd=tmp_path)
    assert package.startswith(str(program.parent.parent))
    assert run(program, "--version", cwd=tmp_path).startswith("pesisir ")
    node = tmp_path / "node"
    node.mkdir()
    (node / "pesisir.toml").write_text(SETTINGS, encoding="utf-8")
    run(program, "--dir", node, "init", "--site", "TJL", "--name", "Tanjung Laut", cwd=tmp_path)
    gateway = ("--family", "coova", "--address", "10.1.0.1")
    run(program, "--dir", node, "gateway", "add", "pos-1", *gateway, cwd=tmp_path)
    assert "uamsecret" in run(program, "--dir", node, "gateway", "config", "pos-1", cwd=tmp_path)
    with RunningNode(node, program=[str(program)], cwd=tmp_path) as running:
        connection = HTTPConnection(*running.address("http"), timeout=60)
        connection.request("GET", "/", headers={"Accept-Language": "id"})
        answer = connection.getresponse()
        page = answer.read().decode()
        connection.close()
        assert answer.status == 200
        for words in ("Selamat datang di Tanjung Laut", "Kode di kartu (12 angka)", "Masuk"):
            assert words in page
        assert running.stop() == 0
    assert "Traceback" not in (node / "node.log").read_text(encoding="utf-8")
