"""How the training tells what it is doing, and what every card says of it."""

from collections.abc import Callable

Log = Callable[[str], None]

REPRODUCED = "Training again gives the same weights with the same torch on the same processor with one thread; elsewhere others of the same kind."
"""A card's limitation: sums are rounded in another order by other processors, versions and numbers of threads."""
