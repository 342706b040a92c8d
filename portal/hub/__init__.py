"""The hub's use cases: taking records, what is made of them, and what goes back to nodes.

One request is one transaction. No clock, no randomness, no HTTP: all of it comes as arguments.
"""
