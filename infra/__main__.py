"""`python -m infra …` is `telegate …`."""

from infra.cli import main

main(prog_name="telegate")
