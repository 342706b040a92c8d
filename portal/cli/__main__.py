"""`python -m portal.cli`."""

from portal.cli.program import main

main()
