"""The command: `python -m benchmarks [--quick] [--only NAME]`."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from benchmarks import machine, postgresql, report
from benchmarks.asking import asking
from benchmarks.failing import BenchmarkFailed
from benchmarks.plan import FULL, QUICK, Plan
from benchmarks.results import Finding
from benchmarks.servers import Place
from benchmarks.starting import memory, starting
from benchmarks.throughput import messages, webhook
from benchmarks.waiting import waiting

Measurement = Callable[[Place, Plan], Finding]

MEASUREMENTS: Mapping[str, Measurement] = {
    "webhook": webhook,
    "messages": messages,
    "asking": asking,
    "waiting": waiting,
    "starting": starting,
    "memory": memory,
}

_LONGEST_RUN = 1800


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, show, write the results' page.

    Returns:
        0 when everything was measured, whether the budgets are met or not; 1 when something was impossible.
    """
    options = _parser().parse_args(arguments)
    if not machine.can_measure_memory():
        print("The benchmark needs Linux: it reads from /proc what the server takes.", file=sys.stderr)
        return 1
    _end_in_time()
    folder = machine.disk_folder()
    try:
        return _run(options.only or list(MEASUREMENTS), options.quick, Place.on_this_machine(folder))
    except BenchmarkFailed as error:
        print(f"The benchmark has failed: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder)


def _run(names: Sequence[str], quick: bool, place: Place) -> int:
    circumstances = report.Circumstances(
        machine=machine.describe(),
        cores=str(place.cores),
        disk=f"4 KiB are durable on its disk after {machine.sync_milliseconds(place.folder):.2f} ms",
        database=postgresql.describe(place.cores),
        quick=quick,
    )
    print(*circumstances.lines, sep="\n", flush=True)
    machine.raise_file_limit()
    machine.pin(os.getpid(), place.cores.load)
    findings = []
    with place.telegram() as double:
        for name in names:
            finding = MEASUREMENTS[name](replace(place, double=double.port), QUICK if quick else FULL)
            print(report.show(finding), flush=True)
            findings.append(finding)
    print(f"\n{report.verdict(findings)}")
    if len(names) == len(MEASUREMENTS):
        report.write(findings, circumstances)
        print(f"The results are in {report.RESULTS}.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure the server against others, in one run."
    )
    parser.add_argument("--quick", action="store_true", help="a short run, with fewer rounds")
    parser.add_argument("--only", action="append", choices=list(MEASUREMENTS), help="may be repeated")
    return parser


def _end_in_time() -> None:
    """Stop, and stop the servers, when told to, and at the latest after half an hour."""

    def stop(number: int, _frame: object) -> None:
        sys.exit(f"The benchmark was stopped by signal {number}.")

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(_LONGEST_RUN)


if __name__ == "__main__":
    sys.exit(main())
