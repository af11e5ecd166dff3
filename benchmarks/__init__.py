"""Benchmarks: the real server against what others build, on one machine and in one run."""
