"""The command line: parse, call one use case, print."""

from portal.cli.program import main

__all__ = ["main"]
