import numpy as np
import pytest

from radnode_inference.measure import LEFT, RIGHT, centroid, diameters, laterality, volume_ml
from radnode_inference.volume import SourceFrame, Volume


def volume(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Volume:
    """Axial, origin at (-50, -40, 10) mm."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing
    affine[:3, 3] = -50, -40, 10
    sources = tuple(SourceFrame(sop_class_uid="1", sop_uid=str(i)) for i in range(shape[0]))
    return Volume(
        voxels=np.zeros(shape, np.float32), affine=affine, frame_of_reference_uid="1", series_uid="1", sources=sources
    )


def ellipse(
    shape: tuple[int, int], spacing: tuple[float, float], long_mm: float, short_mm: float, degrees: float
) -> np.ndarray:
    """A filled ellipse with the given whole axes, its long axis turned from the column direction."""
    y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    rows, columns = np.meshgrid(y * spacing[0], x * spacing[1], indexing="ij")
    angle = np.radians(degrees)
    u = columns * np.cos(angle) + rows * np.sin(angle)
    v = -columns * np.sin(angle) + rows * np.cos(angle)
    return (2 * u / long_mm) ** 2 + (2 * v / short_mm) ** 2 <= 1


def test_a_box_has_the_volume_and_centre_of_its_voxels() -> None:
    grid = volume((10, 20, 30), (5.0, 2.0, 1.0))
    mask = np.zeros(grid.shape, bool)
    mask[2:6, 3:8, 10:20] = True
    assert volume_ml(mask, grid) == pytest.approx(4 * 5 * 10 * 10 / 1000)
    assert centroid(mask, grid) == pytest.approx((-50 + 14.5, -40 + 5 * 2.0, 10 + 3.5 * 5))


@pytest.mark.parametrize("degrees", [0, 30, 45, 77, 90])
@pytest.mark.parametrize("spacing", [(0.5, 0.5), (1.0, 0.4)], ids=["square pixels", "oblong pixels"])
def test_diameters_of_an_ellipse_are_its_axes(degrees: float, spacing: tuple[float, float]) -> None:
    grid = volume((3, 150, 200), (3.0, *spacing))
    mask = np.zeros(grid.shape, bool)
    mask[0] = ellipse((150, 200), spacing, 20, 10, degrees)
    mask[1] = ellipse((150, 200), spacing, 40, 16, degrees)
    found = diameters(mask, grid)
    assert found.slice_index == 1
    assert found.long_mm == pytest.approx(40, abs=1.0)
    assert found.short_mm == pytest.approx(16, abs=1.2)
    assert np.linalg.norm(np.subtract(*found.long_ends)) == pytest.approx(found.long_mm)
    assert np.linalg.norm(np.subtract(*found.short_ends)) == pytest.approx(found.short_mm)
    assert abs(np.dot(np.subtract(*found.long_ends), np.subtract(*found.short_ends))) < 1e-6
    assert all(end[2] == pytest.approx(13) for end in (*found.long_ends, *found.short_ends))


@pytest.mark.parametrize(("pixels", "long_mm", "short_mm"), [((1, 1), 2.0, 2.0), ((1, 6), 12.0, 2.0)])
def test_a_mask_of_a_few_pixels_has_the_size_of_its_pixels(
    pixels: tuple[int, int], long_mm: float, short_mm: float
) -> None:
    grid = volume((1, 12, 12), (3.0, 2.0, 2.0))
    mask = np.zeros(grid.shape, bool)
    mask[0, 3 : 3 + pixels[0], 3 : 3 + pixels[1]] = True
    found = diameters(mask, grid)
    assert (found.long_mm, found.short_mm) == pytest.approx((long_mm, short_mm), rel=0.02)


@pytest.mark.parametrize("measure", [centroid, diameters])
def test_an_empty_mask_is_refused(measure: object) -> None:
    grid = volume((2, 3, 4), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="empty mask"):
        measure(np.zeros(grid.shape, bool), grid)  # type: ignore[operator]


def test_the_patients_right_is_at_small_x_whatever_the_columns_do() -> None:
    grid = volume((2, 4, 100), (1.0, 1.0, 1.0))
    mask = np.zeros(grid.shape, bool)
    mask[:, :, 10:20] = True
    assert laterality(mask, grid) == RIGHT
    affine = grid.affine.copy()
    affine[0, 2], affine[0, 3] = -1, 49
    mirrored = Volume(
        voxels=grid.voxels, affine=affine, frame_of_reference_uid="1", series_uid="1", sources=grid.sources
    )
    assert laterality(mask, mirrored) == LEFT
    assert laterality(mask, grid, middle_x=-60) == LEFT
