"""Resources: where the files that are not code lie.

A wheel carries them in `portal/_data`; a checkout and an editable install have them at the root of
the repository. Nothing else may ask where the package is.
"""

from pathlib import Path

NAMES = ("templates", "static", "hotspot_config")

_PACKAGE = Path(__file__).resolve().parent


def data_dir(name: str) -> Path:
    """Return the directory of `name`, one of NAMES.

    Raises ValueError for another name and FileNotFoundError when the installation lacks it.
    """
    if name not in NAMES:
        raise ValueError(f"data directory is {name!r}; expected one of {', '.join(NAMES)}")
    places = (_PACKAGE / "_data" / name, _PACKAGE.parent / name)
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(
        f"no directory {name!r} in this installation; expected {places[0]} or {places[1]}"
    )
