"""Tests, and the fakes that they share."""
