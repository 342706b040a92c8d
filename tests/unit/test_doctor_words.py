"""Every finding and fix of the gateway doctor has its words in both languages."""

import ast
import inspect
import re

import pytest

from portal.doctor import checks as doctor_checks
from portal.doctor.checks import NAMES
from portal.doctor.evidence import State
from portal.web.text import Texts


def findings_in_code() -> set[tuple[str, str]]:
    """(check, sentence) of every Finding the checks can make, and their fixes as ("fix", name)."""
    source = inspect.getsource(doctor_checks)
    found: set[tuple[str, str]] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding":
            check = ast.literal_eval(node.args[0])
            said = node.args[2]
            for word in re.findall(r"'([a-z_]+)'", ast.unparse(said)):
                found.add((check, word))
            if len(node.args) > 4:
                for word in re.findall(r"'([a-z_]+)'", ast.unparse(node.args[4])):
                    found.add(("fix", word))
    return found


@pytest.mark.parametrize("language", ["id", "en"])
def test_every_finding_and_fix_has_its_words(language: str) -> None:
    t = Texts().translator(language)
    texts = t._catalogue.texts
    found = findings_in_code()
    assert len(found) > 80
    assert [
        f"doctor.{check}.{said}" for check, said in found if f"doctor.{check}.{said}" not in texts
    ] == []
    known = {
        key for key in texts if re.fullmatch(r"doctor\.(?:fix|" + "|".join(NAMES) + r")\..+", key)
    }
    # Named in variables and in a table.
    assert known - {f"doctor.{check}.{said}" for check, said in found} <= {
        *("doctor.fix.agent", "doctor.fix.agent_files"),
        *("doctor.portal.signed", "doctor.portal.came", "doctor.clock.fast", "doctor.clock.slow"),
    }
    assert all(f"doctor.title.{check}" in texts for check in NAMES)
    assert all(f"doctor.state.{state.value}" in texts for state in State)
