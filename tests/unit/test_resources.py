from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

import portal.resources
from portal.resources import NAMES, data_dir


@pytest.mark.parametrize("name", NAMES)
def test_every_data_directory_is_found(name: str) -> None:
    directory = data_dir(name)
    assert directory.is_dir()
    assert directory.is_absolute()
    assert directory.name == name


def test_another_directory_is_refused() -> None:
    with pytest.raises(ValueError, match="is 'tests'; expected one of templates, static"):
        data_dir("tests")


def installed_at(directory: Path) -> ModuleType:
    """Load our module as if the package were installed in `directory`."""
    package = directory / "portal"
    package.mkdir(exist_ok=True)
    path = package / "resources.py"
    path.write_text(Path(portal.resources.__file__).read_text("utf-8"), "utf-8")
    spec = spec_from_file_location("installed_resources", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_a_wheel_carries_goes_before_what_lies_beside_it(tmp_path: Path) -> None:
    beside, carried = tmp_path / "static", tmp_path / "portal" / "_data" / "static"
    beside.mkdir()
    assert installed_at(tmp_path).data_dir("static") == beside
    carried.mkdir(parents=True)
    assert installed_at(tmp_path).data_dir("static") == carried


def test_an_installation_without_its_files_says_where_they_were_expected(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no directory 'static'.*expected .*_data/static"):
        installed_at(tmp_path).data_dir("static")
