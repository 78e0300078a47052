"""How much each modality contributes to a prediction: exact Shapley values over all coalitions (Shapley 1953)."""

from collections.abc import Callable, Sequence
from itertools import combinations
from math import comb


def shapley(players: Sequence[str], worth: Callable[[frozenset[str]], float]) -> dict[str, float]:
    """The value of each player; they add up to worth(everyone) - worth(nobody). `worth` is called once per coalition."""
    n = len(players)
    table = {frozenset(c): worth(frozenset(c)) for size in range(n + 1) for c in combinations(players, size)}
    return {
        player: sum(
            (table[coalition | {player}] - table[coalition]) / (n * comb(n - 1, len(coalition)))
            for coalition in table
            if player not in coalition
        )
        for player in players
    }
