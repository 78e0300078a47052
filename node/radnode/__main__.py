"""`python -m radnode` is the same as `radnode`."""

from radnode.cli import main

main()
