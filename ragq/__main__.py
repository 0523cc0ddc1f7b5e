"""`python -m ragq`."""

from ragq.cli import main

main()
