"""Pure rules: no I/O, no clock, no randomness; time and random bytes are arguments."""
