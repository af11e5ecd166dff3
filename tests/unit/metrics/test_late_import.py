"""A start does without the library that writes the exposition."""

from __future__ import annotations

import subprocess
import sys


def test_the_library_is_not_imported_before_somebody_asks() -> None:
    code = "import sys, infra.app; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
