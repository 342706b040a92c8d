"""Misses: whoever tries many codes from many phones takes only so much of the node's memory."""

from portal.misses import CLIENT_MISSES, CLIENTS_KEPT, Misses


def test_only_so_many_clients_are_remembered_the_latest_ones() -> None:
    misses = Misses()
    for _ in range(CLIENT_MISSES):
        misses.miss("first", None, 0.0)
        misses.miss("second", None, 0.0)
    misses.miss("first", None, 1.0)
    for number in range(CLIENTS_KEPT - 1):
        misses.miss(f"stranger {number}", None, 2.0)
    assert misses.in_a_row("first") == CLIENT_MISSES + 1
    assert misses.in_a_row("second") == 0
    assert misses.in_a_row(f"stranger {CLIENTS_KEPT - 2}") == 1
    misses.recall("one before the restart", 3, 2.0)
    assert misses.in_a_row("first") == 0
    assert misses.in_a_row("one before the restart") == 3
