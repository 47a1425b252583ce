"""`python -m auditkit`: the command line."""

from auditkit.cli import main

main()
