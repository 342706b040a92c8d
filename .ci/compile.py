"""Compiles the hot path: the modules that every RADIUS packet passes, to C by mypyc.

They stay plain Python, are read, type-checked and changed as such, and run uncompiled wherever
there is no C compiler or no header of Python; compiled, a packet costs half the CPU.

As hatchling's build hook (`pip install .`, also `--editable`) it compiles when it can, and says so
when it cannot. `PESISIR_COMPILE=no` leaves it out, for a wheel that fits every machine; `yes` makes
a failure an error. As a script it works in the checkout:

    compile.py            compiles, unless what is there is as new as its source
    compile.py --remove   back to plain Python
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent.parent
STAMP = "portal/compiled.json"
"""What was compiled from what; portal/compiled.py reads it."""
GROUP = "pesisir_hot"
"""The library they share lies at the top, as mypyc wants it."""
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


def modules() -> list[str]:
    """The files to compile, as pyproject.toml lists them."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        hook = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    found: list[str] = hook["modules"]
    return found


def products() -> list[str]:
    """Where the compiled modules go: beside their sources, and one library that they share."""
    doors = [str(Path(module).with_suffix(SUFFIX)) for module in modules()]
    return [f"{GROUP}__mypyc{SUFFIX}", *doors]


def described() -> str:
    """The stamp of the sources as they are."""
    sources = {
        module: hashlib.sha256((ROOT / module).read_bytes()).hexdigest() for module in modules()
    }
    return json.dumps({"suffix": SUFFIX, "sources": sources}, indent=1) + "\n"


def is_fresh() -> bool:
    """Whether the checkout holds the compiled form of its sources for this Python."""
    stamp = ROOT / STAMP
    return (
        all((ROOT / product).exists() for product in products())
        and stamp.exists()
        and stamp.read_text() == described()
    )


def remove() -> None:
    """Leave no compiled module in the checkout, not even of modules that are none any more."""
    (ROOT / STAMP).unlink(missing_ok=True)
    for pattern in (f"{GROUP}__*.so", "portal/**/*.so", "radius/**/*.so"):
        for path in ROOT.glob(pattern):
            path.unlink()


def missing() -> str | None:
    """What this machine lacks for compiling, None when it has all."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None and shutil.which("cc") is None:
        return f"no C compiler ({compiler})"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "no headers of Python (Debian: python3-dev)"
    if importlib.util.find_spec("mypyc") is None or importlib.util.find_spec("setuptools") is None:
        return "no mypyc or no setuptools"
    return None


def compile_into(place: Path) -> None:
    """Compile to `place`, laid out as the checkout. Raises CalledProcessError when it fails."""
    # In a process of its own: setuptools and mypyc take over the process they run in.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(
        [sys.executable, __file__, "--build", str(place)],
        cwd=ROOT,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    (place / STAMP).write_text(described())


def build(place: Path) -> None:
    """The work of `compile_into`, in its process."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    # Types of other packages may be missing where a wheel is built: `make check` has them.
    lenient = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
    with tempfile.TemporaryDirectory(prefix="pesisir-compile-") as work:
        extensions = mypycify(
            [*lenient, *modules()],
            opt_level="2",
            multi_file=True,
            target_dir=work,
            group_name=GROUP,
        )
        for extension in extensions:
            # Another compiler may warn of other things; symbols would double the time.
            kept = [one for one in extension.extra_compile_args if one != "-Werror"]
            extension.extra_compile_args = [*kept, "-g0"]
        command = build_ext(Distribution({"name": "pesisir", "ext_modules": extensions}))
        command.build_lib, command.build_temp = str(place), f"{work}/objects"
        command.ensure_finalized()
        command.run()


def compile_checkout() -> None:
    """Make the compiled modules of the checkout fresh; what fails leaves what is there."""
    with tempfile.TemporaryDirectory(prefix="pesisir-compiled-") as place:
        compile_into(Path(place))
        remove()
        for product in (*products(), STAMP):
            shutil.move(Path(place) / product, ROOT / product)


class CompileHook(BuildHookInterface[Any]):
    """What hatchling calls before it makes a wheel, editable or not."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Put the compiled modules into the wheel, or beside their sources for an editable one."""
        wish = os.environ.get("PESISIR_COMPILE", "auto")
        if wish == "no":
            return
        lack = missing()
        if lack is None:
            try:
                if not is_fresh():
                    compile_checkout()
            except subprocess.CalledProcessError as error:
                lack = f"\n{error.output[-2000:]}"
            except OSError as error:
                lack = str(error)
        if lack is not None:
            if wish == "yes":
                raise RuntimeError(f"The hot path could not be compiled: {lack}")
            self.app.display_warning(f"Not compiled, runs as plain Python: {lack}")
            with contextlib.suppress(OSError):
                remove()
        elif version != "editable":
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            for product in products():
                build_data["force_include"][str(ROOT / product)] = product


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--build", place]:
            sys.argv[1:] = []
            build(Path(place))
        case ["--remove"]:
            remove()
        case []:
            lack = missing()
            if lack is not None:
                sys.exit(f"The hot path cannot be compiled here: {lack}.")
            if not is_fresh():
                try:
                    compile_checkout()
                except subprocess.CalledProcessError as error:
                    sys.exit(f"{error.output}\nThe hot path could not be compiled, see above.")
        case other:
            sys.exit(f"compile.py: {other} is neither nothing nor --remove.")
