"""`python -m attattr_batch` is the same as `attattr`."""

from attattr_batch.cli.main import main

main()
