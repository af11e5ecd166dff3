"""Servers to compare with: what somebody would write without Telegate."""
