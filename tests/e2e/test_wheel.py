"""The wheel alone: installed away from the checkout, it makes a node that serves residents."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from http.client import HTTPConnection
from pathlib import Path

import pytest

from portal.compiled import is_compiled
from tests.e2e.command import SETTINGS, RunningNode, environment

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*command: str | Path, cwd: Path, **more: str) -> str:
    """What a command prints; the test fails with its complaint when it does not succeed."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel for any machine, made from the source archive as `python -m build` does."""
    place = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", place, ROOT)
    run(*build, cwd=place, PESISIR_COMPILE="no")
    (found,) = place.glob("pesisir-*-py3-none-any.whl")
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


def test_a_compiled_wheel_is_for_machines_like_this_and_holds_both_forms(tmp_path: Path) -> None:
    if not is_compiled():
        pytest.skip("the hot path is not compiled here")
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT)
    run(*build, cwd=tmp_path, PESISIR_COMPILE="yes")
    (wheel,) = tmp_path.glob("pesisir-*.whl")
    assert not wheel.name.endswith("-any.whl")
    place = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    assert (place / "portal" / "aaa.py").exists()
    said = run(
        *(sys.executable, "-c", "import portal.aaa; print(portal.aaa.__file__)"),
        cwd=place,
    )
    assert said.startswith(str(place)) and said.strip().endswith(".so")
