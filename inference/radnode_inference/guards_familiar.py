"""Whether an input looks like the ones a model was made for: an out-of-distribution check on a few plain features.

Each image of the input gets intensity, texture and layout features; the score is the root mean square of their z-scores
against reference images, divided by the largest that is allowed: 1 is the limit. Simple on purpose: every number
can be looked at, and a card holds it in a few lines. How well it works: docs/measurements.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.floating[Any]]
Features = NDArray[np.float64]

PERCENTILES = (2, 25, 50, 75, 98)
QUARTERS = 4
FEWEST = 10
SAMPLED = 200_000
"""Voxels that percentiles are taken of, at most about twice as many."""
SMALLEST_SPREAD = 0.02
"""Features vary by about one; a reference in which one hardly varies must not make every difference infinite."""
ALLOWED = 1.25
"""The limit, as a multiple of the largest score among the reference images themselves."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Of one image of the input: mean and standard deviation of its features, and the largest score that is allowed."""

    mean: Features
    spread: Features
    limit: float

    @classmethod
    def of(cls, images: Sequence[Image]) -> "Reference":
        """The reference that these images are. Raises ValueError for fewer than `FEWEST`."""
        return cls.of_features([features(i) for i in images])

    @classmethod
    def of_features(cls, each: Sequence[Features]) -> "Reference":
        """The same, from the features of each image. Raises ValueError also when they are not equally many."""
        if len(each) < FEWEST:
            raise ValueError(f"{len(each)} images are too few for a reference ({FEWEST} at least)")
        found = np.stack(each)
        mean, spread = found.mean(axis=0), np.maximum(found.std(axis=0, ddof=1), SMALLEST_SPREAD)
        largest = max(distance(f, mean, spread) for f in found)
        return cls(mean=mean, spread=spread, limit=ALLOWED * largest)

    @classmethod
    def from_card(cls, given: Mapping[str, Any]) -> "Reference":
        """Raises KeyError, TypeError or ValueError for a card that does not hold one."""
        mean, spread = (np.asarray(given[key], np.float64) for key in ("mean", "spread"))
        if mean.shape != spread.shape or mean.ndim != 1 or not (spread > 0).all() or not float(given["limit"]) > 0:
            raise ValueError("mean and spread must be equally many numbers, spreads and limit positive")
        return cls(mean=mean, spread=spread, limit=float(given["limit"]))

    def card(self) -> dict[str, Any]:
        """As a card writes it."""
        return {
            "limit": round(self.limit, 4),
            "mean": [round(float(v), 4) for v in self.mean],
            "spread": [round(float(v), 4) for v in self.spread],
        }

    def score(self, image: Image) -> float:
        """How unlike the reference an image is: 0 exactly its mean, 1 the limit. Raises ValueError for another number of features."""
        found = features(image)
        if found.shape != self.mean.shape:
            raise ValueError(f"an image with {len(found)} features, the reference has {len(self.mean)}")
        return distance(found, self.mean, self.spread) / self.limit


def distance(found: Features, mean: Features, spread: Features) -> float:
    return float(np.sqrt(np.mean(((found - mean) / spread) ** 2)))


def features(image: Image) -> Features:
    """What is looked at of an image [(channel,) x, y, z]; channels are averaged, and their own means follow.

    Five percentiles; per axis the mean step between neighbours, the likeness to its own mirror image, and the means of
    four slabs; all but the percentiles after division by the standard deviation.
    """
    array = np.asarray(image, np.float32)
    channels = array if array.ndim == 4 else array[None]
    one = channels.mean(axis=0)
    spread = float(one.std()) or 1.0
    centred = (one - one.mean()) / spread
    found = [float(v) for v in np.percentile(one.ravel()[:: max(1, one.size // SAMPLED)], PERCENTILES)]
    for axis in range(3):
        found.append(float(np.abs(np.diff(centred, axis=axis)).mean()) if one.shape[axis] > 1 else 0.0)
        found.append(float((centred * np.flip(centred, axis)).mean()))
        found += [float(slab.mean()) if slab.size else 0.0 for slab in np.array_split(centred, QUARTERS, axis)]
    if len(channels) > 1:
        found += [float((c.mean() - one.mean()) / spread) for c in channels]
    whole: Features = np.nan_to_num(np.asarray(found, np.float64), nan=1e6, posinf=1e6, neginf=-1e6)
    return whole
