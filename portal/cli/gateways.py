"""`pesisir gateway suite`: does this node understand every make of gateway?"""

import sys
from typing import Any

import click

from portal.cli.terminal import json_option, show, table


@click.command("suite")
@click.option(
    "--family", "families", metavar="FAMILY", multiple=True, help="Only this family (repeatable)."
)
@json_option
def suite(families: tuple[str, ...], as_json: bool) -> None:
    """Play every gateway's habits against a node, and print which it takes right.

    Makes a node and gateways of its own, in a directory that goes away afterwards, on loopback
    addresses. Takes some seconds and touches nobody's data. Exit status 1 when a habit is taken
    wrong.
    """
    import asyncio
    import logging

    from portal import logs
    from portal.practice import suite as practice_suite

    logs.start(logging.ERROR)
    outcomes = asyncio.run(practice_suite.run(families))
    failed = [outcome for outcome in outcomes if outcome.outcome == "fail"]
    found = {
        "passed": sum(outcome.outcome == "pass" for outcome in outcomes),
        "failed": len(failed),
        "cases": [
            {
                "case": outcome.case,
                "family": outcome.family,
                "outcome": outcome.outcome,
                "detail": outcome.detail,
            }
            for outcome in outcomes
        ],
    }

    def text(found: dict[str, Any]) -> str:
        lines = [table(*practice_suite.table_of(outcomes)), ""]
        lines += [f"{one.case}, {one.family}: {one.detail}" for one in failed]
        lines.append(
            f"{found['passed']} passed, {found['failed']} failed; -: no habit of that make."
        )
        return "\n".join(lines)

    show(found, as_json, text)
    if failed:
        sys.exit(1)
