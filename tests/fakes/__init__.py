"""A gateway without a world: every port of the core in memory, for tests that need no network and no disk.

`world.py` puts them together; the other rooms hold one fake each. They keep what the ports promise, word
by word, so that a test over a fake says something about the real thing.
"""
