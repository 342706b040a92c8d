"""The compiled hot path: never of other sources than those beside it, and what CI tests."""

import hashlib
import importlib
import json
import os
import tomllib
from pathlib import Path

import pytest

from portal.compiled import ROOT, STAMP, changed_since, is_compiled, refuse_stale
from portal.errors import UserError

SOURCE = "radius/packet.py"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout of one source, which was compiled."""
    (tmp_path / "portal").mkdir()
    (tmp_path / "radius").mkdir()
    (tmp_path / SOURCE).write_text("answer = 1\n")
    digest = hashlib.sha256((tmp_path / SOURCE).read_bytes()).hexdigest()
    (tmp_path / STAMP).write_text(json.dumps({"suffix": ".so", "sources": {SOURCE: digest}}))
    return tmp_path


def test_what_was_compiled_from_these_sources_may_run(tree: Path) -> None:
    assert is_compiled(tree)
    assert changed_since(tree) == []
    refuse_stale(tree)


def test_a_source_that_was_changed_since_is_named_and_nothing_runs(tree: Path) -> None:
    (tree / SOURCE).write_text("answer = 2\n")
    assert changed_since(tree) == [SOURCE]
    with pytest.raises(UserError, match=f"{SOURCE}; run `make compile`"):
        refuse_stale(tree)


def test_a_source_that_is_gone_counts_as_changed(tree: Path) -> None:
    (tree / SOURCE).unlink()
    assert changed_since(tree) == [SOURCE]


def test_plain_python_may_change_as_it_likes(tree: Path) -> None:
    (tree / STAMP).unlink()
    (tree / SOURCE).write_text("answer = 2\n")
    assert not is_compiled(tree)
    refuse_stale(tree)


def hot_modules() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    return [Path(path).with_suffix("").as_posix().replace("/", ".") for path in hook["modules"]]


@pytest.mark.parametrize("name", hot_modules())
def test_each_module_of_the_list_runs_in_the_form_that_is_claimed(name: str) -> None:
    file = importlib.import_module(name).__file__ or ""
    assert file.endswith(".so") == is_compiled(), file


def test_ci_tests_the_compiled_form() -> None:
    if os.environ.get("PESISIR_COMPILE") != "yes":
        pytest.skip("PESISIR_COMPILE is not yes: either form may be tested")
    assert is_compiled()
