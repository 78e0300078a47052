"""Where things lie in a generated chest with two breasts, as functions of the place in LPS mm."""

from dataclasses import dataclass

import numpy as np

from radnode_inference.generator.fields import Field, Grid, Point, draw_tubes, ellipsoid, soft, winding
from radnode_inference.generator.tofts import Tissue, enhancement_ratio, signal
from radnode_inference.volume import FloatArray

EXTENT = (345.0, 335.0, 152.0)
"""Field of view x, y, z in mm."""
WALL_CENTRE_Y, WALL_X, WALL_Y = 115.0, 152.0, 102.0
REFERENCE_TIMES = np.array([-60.0, 70.0, 150.0, 230.0, 310.0, 390.0, 450.0])
EXCHANGE = {  # 1/min: ranges of ktrans and kep that give each curve
    "washout": ((0.5, 0.95), (1.0, 1.8)),
    "plateau": ((0.3, 0.55), (0.45, 0.8)),
    "persistent": ((0.14, 0.3), (0.1, 0.28)),
}
Points = tuple[FloatArray, FloatArray, FloatArray]


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """A mass: centre LPS mm, radii mm along x, y, z, spicule height mm, the part of the uptake in its middle."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    spicules_mm: float
    core: float
    curve: str
    tissue: Tissue
    adc_mm2_s: float
    t2: float


@dataclass(frozen=True, kw_only=True)
class Breast:
    """One breast: half an ellipsoid before the chest wall. density: part of it that is gland."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    density: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """Shares 0..1 per voxel: of each tissue (without lesions), of being breast, and of each lesion."""

    share: dict[str, FloatArray]
    breast: FloatArray
    lesions: tuple[FloatArray, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Anatomy:
    """One patient. tissues: contrast behaviour by name; background: gland with its parenchymal enhancement."""

    breasts: tuple[Breast, Breast]
    lesions: tuple[Lesion, ...]
    cysts: tuple[tuple[tuple[float, float, float], float], ...]
    vessels: tuple[tuple[Point, Point, float], ...]
    tissues: dict[str, Tissue]
    background: Tissue
    surface: Field
    glandular: Field
    rough: Field

    def parts(self, where: Grid) -> Parts:
        """The shares of every tissue on a grid."""
        points = where.points()
        width = float(np.cbrt(where.voxel_ml * 1000)) / 2
        bumps = self.surface(*points)
        wall = ellipsoid_wall(points) + 2 * bumps
        outside, depth = self.outline(points, wall, bumps)
        muscle = soft(wall, width)
        body = soft(outside, width)
        breast = np.minimum(soft(outside, width), 1 - muscle) * (points[1] < 75) * breast_zone(points, wall)
        share = {"lung": soft(wall + 16, width)}
        share["blood"] = soft(ellipsoid(points, (22.0, 78.0, -8.0), (52.0, 44.0, 62.0)), width)
        share["lung"] = np.minimum(share["lung"], 1 - share["blood"])
        share["muscle"] = np.clip(muscle - share["lung"] - share["blood"], 0, 1)
        share["skin"] = np.clip(body - soft(outside + 2.2, width), 0, 1) * (1 - muscle)
        share["gland"] = self.gland(points, wall, outside, depth) * (1 - share["skin"]) * (1 - muscle)
        tubes = np.zeros(where.shape, np.float32)
        draw_tubes(tubes, where, list(self.vessels), width)
        cyst = np.zeros(where.shape, np.float32)
        for centre, radius in self.cysts:
            np.maximum(cyst, soft(ellipsoid(points, centre, (radius,) * 3), width), out=cyst)
        share["blood"] = np.maximum(share["blood"], tubes * body)
        share["cyst"] = np.minimum(cyst, 1 - share["blood"])
        taken = share["blood"] + share["cyst"]
        for name in ("lung", "muscle", "skin", "gland"):
            share[name] = share[name] * (1 - taken)
        share["fat"] = np.clip(body - sum(share.values()), 0, 1)
        lesions = tuple(self.lesion_share(points, lesion, width) for lesion in self.lesions)
        return Parts(share=share, breast=breast, lesions=lesions)

    def outline(self, points: Points, wall: FloatArray, bumps: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Signed distance to the skin, and 0 at the nipple's axis to 1 at the edge of the nearer breast."""
        right, left = (ellipsoid(points, breast.centre, breast.radii) for breast in self.breasts)
        breasts = np.minimum(right, left) + np.float32(1.5) * bumps
        outside = np.minimum(wall - 9, breasts)
        return outside.astype(np.float32), breasts.astype(np.float32)

    def gland(self, points: Points, wall: FloatArray, outside: FloatArray, breasts: FloatArray) -> FloatArray:
        """Fibroglandular tissue: a random pattern, denser in the middle of a breast."""
        x, y, z = points
        near = (breasts < 2) & (wall > -2)
        share = np.zeros_like(x)
        px, py, pz = x[near], y[near], z[near]
        threshold = np.full(px.shape, 9.0, np.float32)
        for breast in self.breasts:
            centre = (breast.centre[0], breast.centre[1] - 0.45 * breast.radii[1], breast.centre[2])
            radii = tuple(0.8 * r for r in breast.radii)
            q = sum(((p - c) / r) ** 2 for p, c, r in zip((px, py, pz), centre, radii, strict=True))
            threshold = np.minimum(threshold, 2.6 * q - 4.2 * breast.density + 0.35)
        pattern = self.glandular(px, py, pz) + 0.45 * self.rough(px, py, pz)
        inside = np.clip((pattern - threshold) * 1.6 + 0.5, 0, 1)
        inside *= np.clip((wall[near] - 5) / 4, 0, 1) * np.clip((-outside[near] - 5) / 4, 0, 1)
        share[near] = inside
        return share

    def lesion_share(self, points: Points, lesion: Lesion, width: float) -> FloatArray:
        share = np.zeros_like(points[0])
        reach = max(lesion.radii) * 1.5 + 3 * lesion.spicules_mm + 4
        near = np.ones(share.shape, bool)
        for p, c in zip(points, lesion.centre, strict=True):
            near &= np.abs(p - np.float32(c)) < reach
        px, py, pz = (p[near] for p in points)
        bumps = lesion.spicules_mm * self.rough(px * 1.3 + 500, py * 1.3, pz * 1.3)
        share[near] = soft(ellipsoid((px, py, pz), lesion.centre, lesion.radii) + bumps, width)
        return share


def ellipsoid_wall(points: Points) -> FloatArray:
    """Signed distance to the front of the chest wall (an ellipse that runs along z), negative inside."""
    x, y, _ = points
    q = np.sqrt((x / np.float32(WALL_X)) ** 2 + ((y - np.float32(WALL_CENTRE_Y)) / np.float32(WALL_Y)) ** 2)
    distance: FloatArray = ((q - 1) * np.float32(WALL_Y)).astype(np.float32)
    return distance


def breast_zone(points: Points, wall: FloatArray) -> FloatArray:
    """1 where tissue before the wall counts as breast: not the thin fat over the ribs at the side and the back."""
    zone: FloatArray = ((wall > 0) & (np.abs(points[0]) < 160)).astype(np.float32)
    return zone


def anatomy(rng: np.random.Generator, *, lesion: bool) -> Anatomy:
    """A random patient, with one or two lesions or none."""
    breasts = two_breasts(rng)
    fields = Field(rng, 45.0), Field(rng, 14.0), Field(rng, 5.0)
    tissues = {
        "fat": Tissue(t1_s=0.37, m0=float(rng.uniform(0.12, 0.22))),  # fat saturation leaves this much
        "gland": Tissue(t1_s=float(rng.uniform(1.15, 1.35)), m0=0.9),
        "muscle": Tissue(t1_s=1.2, m0=0.8, ktrans=0.03, kep=0.3, vp=0.01),
        "skin": Tissue(t1_s=1.0, m0=0.6, ktrans=0.05, kep=0.3, vp=0.01),
        "blood": Tissue(t1_s=1.6, m0=0.9, vp=0.55),
        "lung": Tissue(t1_s=1.2, m0=0.06),
        "cyst": Tissue(t1_s=2.6, m0=1.0),
    }
    gland = tissues["gland"]
    enhancement = float(rng.uniform(0.008, 0.045))
    background = Tissue(t1_s=gland.t1_s, m0=gland.m0, ktrans=enhancement, kep=float(rng.uniform(0.04, 0.15)))
    return Anatomy(
        breasts=breasts,
        lesions=tuple(one_lesion(rng, breasts) for _ in range(1 + int(rng.random() < 0.15))) if lesion else (),
        cysts=tuple(
            (inside(rng, breasts[int(rng.integers(2))], 0.6), float(rng.uniform(3, 9)))
            for _ in range(int(rng.integers(0, 4)))
        ),
        vessels=vessels(rng, breasts),
        tissues=tissues,
        background=background,
        surface=fields[0],
        glandular=fields[1],
        rough=fields[2],
    )


def two_breasts(rng: np.random.Generator) -> tuple[Breast, Breast]:
    """The right (negative x) and the left breast, much alike."""
    offset, width = float(rng.uniform(76, 86)), float(rng.uniform(58, 68))
    depth, height = float(rng.uniform(78, 118)), float(rng.uniform(56, 68))
    density = float(rng.uniform(0.12, 0.5))
    sides = []
    for sign in (-1, 1):
        a, b, c = rng.normal(1, 0.04, 3)
        y = WALL_CENTRE_Y - WALL_Y * np.sqrt(1 - (offset / WALL_X) ** 2)
        sides.append(
            Breast(
                centre=(sign * offset, float(y), float(rng.normal(0, 4))),
                radii=(width * a, depth * b, height * c),
                density=float(np.clip(density + rng.normal(0, 0.03), 0.08, 0.55)),
            )
        )
    return sides[0], sides[1]


def inside(rng: np.random.Generator, breast: Breast, part: float) -> tuple[float, float, float]:
    """A random place in a breast, in the inner `part` of it and clear of the chest wall."""
    while True:
        u = rng.uniform(-part, part, 3)
        u[1] = -rng.uniform(0.25, 0.75)
        if (u**2).sum() < 0.62:
            x, y, z = np.array(breast.centre) + u * np.array(breast.radii)
            return float(x), float(y), float(z)


def one_lesion(rng: np.random.Generator, breasts: tuple[Breast, Breast]) -> Lesion:
    """A mass 8 to 34 mm across whose curve is clearly of its type."""
    breast = breasts[int(rng.integers(2))]
    radius = float(np.exp(rng.uniform(np.log(4.0), np.log(15.0))))
    curve = str(rng.choice(["washout", "plateau", "persistent"], p=[0.45, 0.3, 0.25]))
    a, b, c = (float(v) for v in radius * rng.uniform(0.8, 1.15, 3))
    malignant = curve != "persistent"
    return Lesion(
        centre=inside(rng, breast, 0.5 if radius < 10 else 0.35),
        radii=(a, b, c),
        spicules_mm=float(rng.uniform(0.3, 0.14 * radius + 0.5)) if malignant else 0.2,
        core=float(rng.uniform(0.6, 0.85)) if radius > 8 and rng.random() < 0.3 else 1.0,
        curve=curve,
        tissue=lesion_tissue(rng, curve),
        adc_mm2_s=float(rng.uniform(0.75e-3, 1.05e-3) if malignant else rng.uniform(1.0e-3, 1.4e-3)),
        t2=float(rng.uniform(0.45, 0.62)),
    )


def lesion_tissue(rng: np.random.Generator, curve: str) -> Tissue:
    """Exchange constants whose signal shows `curve` beyond doubt and rises by at least 110 %."""
    ktrans, kep = EXCHANGE[curve]
    for _ in range(2000):
        tissue = Tissue(
            t1_s=float(rng.uniform(1.25, 1.45)),
            m0=0.92,
            ktrans=float(rng.uniform(*ktrans)),
            kep=float(rng.uniform(*kep)),
            vp=float(rng.uniform(0.01, 0.05)),
        )
        level = signal(tissue, REFERENCE_TIMES)
        ratio = enhancement_ratio(level, REFERENCE_TIMES)
        clear = {"washout": ratio > 1.15, "plateau": 0.95 < ratio < 1.05, "persistent": ratio < 0.82}[curve]
        if clear and level[2] / level[0] > 2.1:
            return tissue
    raise RuntimeError(f"no exchange constants give a {curve} curve")


def vessels(rng: np.random.Generator, breasts: tuple[Breast, Breast]) -> tuple[tuple[Point, Point, float], ...]:
    """The internal thoracic vessels beside the sternum, and a few thin veins in each breast."""
    tubes = []
    for sign in (-1, 1):
        y = WALL_CENTRE_Y - WALL_Y + 7
        tubes += winding(rng, np.array([sign * 20.0, y, -95]), np.array([sign * 20.0, y, 95]), 1.9, 1.5)
    for breast in breasts:
        for _ in range(int(rng.integers(1, 4))):
            start, end = (np.array(inside(rng, breast, 0.75)) for _ in range(2))
            start[1] = breast.centre[1] - 12
            tubes += winding(rng, start, end, float(rng.uniform(0.9, 1.5)), 7.0)
    return tuple(tubes)
