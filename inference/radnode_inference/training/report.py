"""How the training tells what it is doing."""

from collections.abc import Callable

Log = Callable[[str], None]
