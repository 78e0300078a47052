"""Where things lie in a generated thorax on a CT table, as functions of the place in LPS mm."""

from dataclasses import dataclass

import numpy as np

from radnode_inference.generator.fields import Field, Grid, Point, draw_tubes, ellipsoid, soft, winding
from radnode_inference.volume import FloatArray

EXTENT = (390.0, 390.0, 310.0)
"""Field of view x, y, z in mm."""
Points = tuple[FloatArray, FloatArray, FloatArray]
Tubes = tuple[tuple[Point, Point, float], ...]


@dataclass(frozen=True, kw_only=True)
class Nodule:
    """A solid nodule: centre LPS mm, radii mm along x, y, z, height of its bumps in mm."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    bumps_mm: float
    hu: float


@dataclass(frozen=True, kw_only=True)
class Lung:
    """An egg cut off by the diaphragm: side -1 right, 1 left; `dome` its top z above the diaphragm's edge."""

    side: int
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    diaphragm_z: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Thorax:
    """One patient. body: half axes x, y in mm; lung_hu: mean density; tubes: start, end, radius."""

    body: tuple[float, float]
    lungs: tuple[Lung, Lung]
    heart: tuple[tuple[float, float, float], tuple[float, float, float]]
    trachea: Tubes
    vessels: Tubes
    nodules: tuple[Nodule, ...]
    lung_hu: float
    fat_mm: float
    blood_hu: float
    arms: bool
    table_y: float
    surface: Field
    texture: Field

    def midline(self, z: FloatArray) -> FloatArray:
        """x of the plane between the lungs."""
        return np.zeros_like(z)

    def parts(self, where: Grid, points: Points) -> dict[str, FloatArray]:
        """The shares 0..1 per voxel of everything that has a density of its own."""
        x, y, z = points
        width = float(np.cbrt(where.voxel_ml * 1000)) / 2
        bumps = 2.5 * self.surface(x, y, z)
        skin = ellipse(x, y, self.body) + 0.5 * bumps
        parts = {"body": soft(skin, width), "inside": soft(skin + self.fat_mm, width)}
        heart = ellipsoid(points, *self.heart)
        middle = np.minimum(heart, np.hypot(x / 1.15, y - 12) - 27).astype(np.float32) + 0.7 * bumps
        lung = np.minimum(*(self.lung(points, lung) for lung in self.lungs)) + bumps
        lung = np.maximum(np.maximum(lung, -middle), skin + self.fat_mm + 14)
        tubes = np.zeros(where.shape, np.float32)
        walls = np.zeros(where.shape, np.float32)
        draw_tubes(tubes, where, list(self.trachea), width)
        draw_tubes(walls, where, [(a, b, r + 1.8) for a, b, r in self.trachea], width)
        vessel = np.zeros(where.shape, np.float32)
        draw_tubes(vessel, where, list(self.vessels), width)
        parts["heart"] = soft(heart, width)
        parts["lung"] = soft(lung, width) * (1 - walls)
        parts["airway"], parts["wall"] = tubes, walls
        parts["vessel"] = vessel * parts["lung"]
        parts["rib"] = self.ribs(points, skin, width)
        parts["spine"], parts["canal"] = self.spine(points, width)
        parts["nodule"] = np.zeros(where.shape, np.float32)
        for nodule in self.nodules:
            np.maximum(parts["nodule"], self.nodule_share(points, nodule, width), out=parts["nodule"])
        parts["table"] = soft(np.abs(y - np.float32(self.table_y) + x * x / 1500) - 2.5, width) * (np.abs(x) < 190)
        parts["arm"] = soft(np.hypot(np.abs(x) - self.body[0] - 34, y - 10) - 27, width) * np.float32(self.arms)
        return parts

    def lung(self, points: Points, lung: Lung) -> FloatArray:
        """Signed distance to one lung's surface: narrower to the top, cut off below by a dome."""
        x, y, z = points
        cx, cy, cz = lung.centre
        rx, ry, rz = lung.radii
        narrow = 1 - 0.28 * np.clip((z - cz) / rz, 0, 1)
        q = np.sqrt((((x - cx) / narrow) / rx) ** 2 + (((y - cy) / narrow) / ry) ** 2 + ((z - cz) / rz) ** 2)
        away = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2
        dome = lung.diaphragm_z + 42 - 46 * np.clip(away, 0, 1.6) - z
        distance: FloatArray = np.maximum((q - 1) * rx, dome).astype(np.float32)
        return distance

    def ribs(self, points: Points, skin: FloatArray, width: float) -> FloatArray:
        """Slanted hoops in the wall of the chest, every 27 mm."""
        x, y, z = points
        depth = skin + self.fat_mm + 8
        slope = z + 0.32 * y * np.sign(0.001 - y) * 0.6 + 0.22 * np.abs(x)
        height = np.abs((slope % 27.0) - 13.5)
        open_front = (np.abs(x) > 26) | (y > 0)
        rib: FloatArray = soft(np.maximum(np.abs(depth) - 4.2, height - 5.2), width) * open_front
        return rib

    def spine(self, points: Points, width: float) -> tuple[FloatArray, FloatArray]:
        """Vertebral bodies with discs between them, and the canal behind them."""
        x, y, z = points
        back = self.body[1] - self.fat_mm - 46
        body = np.hypot(x / 1.2, y - back) - 17
        disc = np.abs((z % 26.0) - 13.0) - 2.5
        arch = np.hypot(x, y - back - 25) - 15
        canal = soft((np.hypot(x, y - back - 24) - 8).astype(np.float32), width)
        bone = np.maximum(soft(np.maximum(body, -disc).astype(np.float32), width), soft(arch.astype(np.float32), width))
        return (bone * (1 - canal)).astype(np.float32), canal

    def nodule_share(self, points: Points, nodule: Nodule, width: float) -> FloatArray:
        share = np.zeros_like(points[0])
        near = np.ones(share.shape, bool)
        for p, c in zip(points, nodule.centre, strict=True):
            near &= np.abs(p - np.float32(c)) < max(nodule.radii) * 1.4 + 4 * nodule.bumps_mm + 3
        px, py, pz = (p[near] for p in points)
        bumps = nodule.bumps_mm * self.texture(px, py, pz)
        share[near] = soft(ellipsoid((px, py, pz), nodule.centre, nodule.radii) + bumps, width)
        return share

    def hounsfield(self, parts: dict[str, FloatArray], points: Points) -> FloatArray:
        """Density without noise. Later lines lie over earlier ones."""
        x, y, z = points
        hu = np.full(x.shape, -1000, np.float32)
        gravity = np.clip((y - 8) / 90, -1, 1)  # supine: the back of the lung is denser
        density = np.float32(self.lung_hu) + 28 * gravity + 14 * self.texture(x, y, z)
        lung_hu = np.clip(density, -1000, -600).astype(np.float32)
        layers: list[tuple[str, FloatArray | float]] = [
            ("table", -250.0), ("arm", 35.0), ("body", -100.0), ("inside", 45.0), ("heart", self.blood_hu),
            ("rib", 420.0), ("lung", lung_hu), ("vessel", self.blood_hu), ("spine", 230.0), ("canal", 20.0),
        ]  # fmt: skip
        for name, value in layers:
            hu += parts[name] * (value - hu)
        hu += parts["wall"] * (30 - hu)
        hu += parts["airway"] * (-995 - hu)
        for nodule in self.nodules:
            hu += self.nodule_share(points, nodule, 1.2) * (np.float32(nodule.hu) - hu)
        return hu


def ellipse(x: FloatArray, y: FloatArray, axes: tuple[float, float]) -> FloatArray:
    """Signed distance to the body's outline, a rounded box between ellipse and rectangle."""
    u, v = np.abs(x / np.float32(axes[0])), np.abs(y / np.float32(axes[1]))
    q = (u * u * np.sqrt(u) + v * v * np.sqrt(v)) ** np.float32(0.4)
    distance: FloatArray = ((q - 1) * np.float32(axes[1])).astype(np.float32)
    return distance


def thorax(rng: np.random.Generator, *, nodules: bool) -> Thorax:
    """A random patient, with one to three nodules or none."""
    body = (float(rng.uniform(150, 168)), float(rng.uniform(108, 124)))
    right, left = (one_lung(rng, side, body) for side in (-1, 1))
    heart = (
        (float(rng.uniform(20, 30)), float(rng.uniform(-32, -20)), float(rng.uniform(-62, -45))),
        (float(rng.uniform(52, 62)), float(rng.uniform(44, 52)), float(rng.uniform(54, 64))),
    )
    trachea = airways(rng)
    lungs = (right, left)
    return Thorax(
        body=body,
        lungs=lungs,
        heart=heart,
        trachea=trachea,
        vessels=tuple(tube for lung in lungs for tube in vessel_tree(rng, lung)),
        nodules=tuple(one_nodule(rng, lungs, heart) for _ in range(int(rng.integers(1, 4)))) if nodules else (),
        lung_hu=float(rng.uniform(-885, -825)),
        fat_mm=float(rng.uniform(9, 20)),
        blood_hu=float(rng.choice([45.0, rng.uniform(120, 220)])),
        arms=bool(rng.random() < 0.25),
        table_y=body[1] + float(rng.uniform(9, 16)),
        surface=Field(rng, 40.0),
        texture=Field(rng, 7.0),
    )


def one_lung(rng: np.random.Generator, side: int, body: tuple[float, float]) -> Lung:
    centre = (side * float(rng.uniform(74, 80)), float(rng.uniform(0, 8)), float(rng.uniform(-14, -2)))
    radii = (float(rng.uniform(54, 60)), body[1] * float(rng.uniform(0.68, 0.75)), float(rng.uniform(122, 135)))
    lower = 12 if side > 0 else 0
    return Lung(side=side, centre=centre, radii=radii, diaphragm_z=float(rng.uniform(-100, -85)) - lower)


def airways(rng: np.random.Generator) -> Tubes:
    """The trachea from above the scan to the carina, and both main bronchi with two branches each."""
    carina = np.array([rng.normal(0, 2), 12 + rng.normal(0, 2), 30 + rng.normal(0, 6)])
    radius = float(rng.uniform(7.0, 9.0))
    tubes = winding(rng, np.array([0.0, 2.0, 175.0]), carina, radius, 1.5, 5)
    for side in (-1, 1):
        hilum = carina + np.array([side * 38.0, 6.0, -26.0 - 4 * side])
        tubes += winding(rng, carina, hilum, radius * 0.72, 1.0, 4)
        for direction in ((18.0, -14.0, 12.0), (20.0, 10.0, -26.0)):
            end = hilum + np.array([side * direction[0], direction[1], direction[2]])
            tubes += winding(rng, hilum, end, radius * 0.42, 1.0, 3)
    return tuple(tubes)


def vessel_tree(rng: np.random.Generator, lung: Lung) -> Tubes:
    """Branches from the hilum outwards, thinner at every fork."""
    tubes: list[tuple[Point, Point, float]] = []
    root = np.array([lung.side * 34.0, 12.0, 4.0])
    ends = [(root, np.array(lung.centre) - root, 4.2) for _ in range(7)]
    for _ in range(5):
        following = []
        for start, direction, radius in ends:
            for _ in range(2 if radius < 4 else 1):
                turn = direction / np.linalg.norm(direction) + rng.normal(0, 0.55, 3)
                end = start + turn / np.linalg.norm(turn) * float(rng.uniform(14, 26))
                tubes.append((start, end, radius))
                following.append((end, turn, radius * 0.72))
        ends = following
    return tuple(tubes)


def one_nodule(
    rng: np.random.Generator, lungs: tuple[Lung, Lung], heart: tuple[tuple[float, ...], tuple[float, ...]]
) -> Nodule:
    """A nodule 6 to 30 mm across, wholly inside a lung and clear of the heart and the middle of the chest."""
    lung = lungs[int(rng.integers(2))]
    radius = float(np.exp(rng.uniform(np.log(3.2), np.log(14.0))))
    while True:
        u = rng.uniform(-1, 1, 3)
        x, y, z = np.array(lung.centre) + u * (np.array(lung.radii) - radius - 8) * 0.8
        outward = lung.side * (x - lung.centre[0])
        away = np.linalg.norm((np.array((x, y, z)) - heart[0]) / (np.array(heart[1]) + radius + 5)) > 1
        if (u**2).sum() < 0.75 and outward > -12 + radius and away and lung.diaphragm_z + 55 + radius < z < 80:
            break
    a, b, c = (float(v) for v in radius * rng.uniform(0.88, 1.1, 3))
    return Nodule(
        centre=(float(x), float(y), float(z)),
        radii=(a, b, c),
        bumps_mm=float(rng.uniform(0.1, 0.08 * radius + 0.2)),
        hu=float(rng.uniform(10, 70)),
    )
