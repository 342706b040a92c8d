"""Doctor's words: a finding of the gateway doctor in one language, for the desk and, in English,
for the command line."""

from collections.abc import Mapping
from typing import Any

from portal.doctor.doctor import Report
from portal.doctor.evidence import Finding, State
from portal.domain.quota import Reason
from portal.web.text import Translator

_REASONS = frozenset(reason.value for reason in Reason)


def told(t: Translator, finding: Finding) -> dict[str, Any]:
    """A finding as JSON: check, state, and in words its title, what was found and the fix."""
    values = _values(t, finding.values)
    return {
        "check": finding.check,
        "state": finding.state.value,
        "title": t(f"doctor.title.{finding.check}"),
        "found": t(f"doctor.{finding.check}.{finding.said}", **values),
        "fix": None if finding.fix is None else t(f"doctor.fix.{finding.fix}", **values),
    }


def summary(t: Translator, report: Report) -> str:
    """All findings in a sentence."""
    states = [finding.state for finding in report.findings]
    if State.BAD in states:
        return t("doctor.some_bad", n=states.count(State.BAD))
    if State.WAIT in states:
        return t("doctor.some_wait", n=states.count(State.WAIT))
    return t("doctor.good")


def _values(t: Translator, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as people read them: the ending of a name is its unit, and goes."""
    said: dict[str, Any] = {}
    for name, value in values.items():
        if name.endswith("_octets"):
            said[name.removesuffix("_octets")] = t.octets(value)
        elif name.endswith("_s"):
            said[name.removesuffix("_s")] = t.duration(round(value))
        elif name == "reason":
            said[name] = t(f"cards.phone_{value if value in _REASONS else 'refused'}")
        else:
            said[name] = value
    return said
