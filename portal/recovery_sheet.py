"""Recovery sheet: one page to print when a node is made and to keep away from the box.

It says what to do when no admin can sign in, when the box is lost, and what a backup holds. It
holds no secret: who finds it can do nothing without the box or a backup.
"""

from pathlib import Path
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from portal.resources import data_dir
from portal.web.text import installed

FILE_NAME = "recovery-sheet.html"


def html(*, directory: Path, site: str, admin: str, at: int, zone: str) -> str:
    """The sheet for a node in `directory`, made at `at` (epoch seconds UTC)."""
    environment = Environment(
        loader=FileSystemLoader(data_dir("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    t = installed().translator()
    return environment.get_template("recovery/sheet.html").render(
        t=t, directory=directory, site=site, admin=admin, date=t.date(at, ZoneInfo(zone))
    )
