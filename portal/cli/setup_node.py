"""A node for the length of `pesisir setup`: the one that runs, the service, or one of our own."""

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from portal import control
from portal.errors import UserError

SERVICE = "pesisir.service"
SERVICE_DIRECTORY = Path("/var/lib/pesisir")
"""What hotspot_config/pesisir.service serves."""
START_WITHIN_S = 60.0
LOG_NAME = "pesisir.setup.log"


@contextmanager
def running(directory: Path) -> Iterator[None]:
    """A running node of `directory` for the time of the block.

    One that runs already is left alone; where the service is installed for this directory it is
    started, and stays; else a node is started that ends with the block. Raises UserError when it
    does not start.
    """
    if control.is_node_running(directory):
        click.echo("The node is running.")
        yield
    elif has_service(directory):
        click.echo(f"Starting the service: systemctl enable --now {SERVICE}")
        done = subprocess.run(
            ["systemctl", "enable", "--now", SERVICE], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise UserError(
                f"the service does not start ({done.stderr.strip()}); see: journalctl -u pesisir"
            )
        yield
    else:
        with _child(directory):
            yield
        click.echo("The node that ran for this setup has stopped.")


def has_service(directory: Path) -> bool:
    """Whether systemd has our unit, for this directory, and we may start it."""
    if directory != SERVICE_DIRECTORY or os.geteuid() != 0 or shutil.which("systemctl") is None:
        return False
    found = subprocess.run(["systemctl", "cat", SERVICE], capture_output=True, check=False)
    return found.returncode == 0


def service_advice(directory: Path) -> str:
    """What to type so that the node starts at boot."""
    if directory == SERVICE_DIRECTORY:
        return "systemctl enable --now pesisir   (docs/install-node.md, 4)"
    return f"pesisir node --dir {directory}"


@contextmanager
def _child(directory: Path) -> Iterator[None]:
    """A node as a child of ours; its log goes into the directory."""
    log = directory / LOG_NAME
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise control.unusable(directory, error) from None
    with open(descriptor, "ab") as errors:
        node = subprocess.Popen(
            [sys.executable, "-m", "portal.cli", "node", "--dir", str(directory)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            # Ctrl-C at the terminal is for us; the node is told when we leave.
            start_new_session=True,
        )
    assert node.stdout is not None
    try:
        readable, _, _ = select.select([node.stdout], [], [], START_WITHIN_S)
        line = node.stdout.readline().decode(errors="replace") if readable else ""
        if not line.startswith("ready"):
            raise UserError(f"the node does not start: {_last_words(log)}")
        click.echo(f"The node runs for this setup: {line.strip()}")
        yield
    finally:
        node.terminate()
        try:
            node.wait(15)
        except subprocess.TimeoutExpired:
            node.kill()
            node.wait()
        node.stdout.close()


def _last_words(log: Path) -> str:
    """The last line a node that did not start has said."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        lines = []
    said = [line.strip() for line in lines if line.strip()]
    return said[-1].rstrip(".") if said else f"see {log}"
