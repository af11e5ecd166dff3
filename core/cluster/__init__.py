"""The cluster: which processes are alive, which of them leads, and when none was there."""
