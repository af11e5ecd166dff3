"""Kinds of jobs: one file each, with what it does, what its outcomes mean, and when it is tried again."""
