"""The policy: which service may call what, and which person may run what."""
