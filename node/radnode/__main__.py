"""`python -m radnode` is the same as `radnode`."""

from radnode.cli import main

if __name__ == "__main__":  # processes that are spawned import this module too
    main()
