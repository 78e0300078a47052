"""Class maps on the source grid against every class interpolated, and the strongest taken."""

import numpy as np
import pytest
import torch
from torch import Tensor

from radnode_inference.class_map import Strongest, on_grid, pack
from radnode_inference.preprocess import Box, sample

SIZE = (23, 19, 17)


def blobs(classes: int, size: tuple[int, int, int] = SIZE, seed: int = 0) -> Tensor:
    """Smooth random probabilities, with borders between two, three and more classes."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.randn((1, classes, 6, 6, 6), generator=draw)
    smooth = torch.nn.functional.interpolate(coarse, size=size, mode="trilinear")[0]
    return (8 * smooth + 0.4 * torch.randn((classes, *size), generator=draw)).softmax(dim=0)


def box() -> Box:
    affine = np.diag([-2.0, -2.0, 2.5, 1.0])
    affine[:3, 3] = (20.0, 15.0, -20.0)
    return Box(size=SIZE, affine=affine)


def source(
    tilt: float = 0.0, spacing: tuple[float, float, float] = (1.3, 0.8, 0.8)
) -> tuple[tuple[int, int, int], np.ndarray]:
    """A volume [slice, row, column] around the grid, which reaches beyond it; tilt in radians."""
    turn = np.array([[0, 0, 1], [0, np.cos(tilt), 0], [np.cos(tilt), 0, 0]], float)
    turn[1, 0], turn[2, 1] = np.sin(tilt), -np.sin(tilt)
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array(spacing)
    affine[:3, 3] = (-28.0, -24.0, -23.0)
    return (40, 52, 64), affine


def every_class_interpolated(
    probabilities: Tensor, shape: tuple[int, int, int], affine: np.ndarray
) -> tuple[Tensor, Tensor]:
    """The strongest class, and by how much it is stronger than the next."""
    grid = Box(size=shape, affine=affine)
    channels = torch.stack(
        [sample(p, box().affine, grid, outside=1.0 if n == 0 else 0.0) for n, p in enumerate(probabilities)]
    )
    best = channels.topk(2, dim=0)
    return best.indices[0], best.values[0] - best.values[1]


@pytest.mark.parametrize("tilt", [0.0, 0.2], ids=["aligned", "oblique"])
@pytest.mark.parametrize("classes", [2, 5, 14])
def test_it_is_what_interpolating_every_class_gives(classes: int, tilt: float) -> None:
    probabilities, (shape, affine) = blobs(classes), source(tilt)
    wanted, lead = every_class_interpolated(probabilities, shape, affine)
    found = on_grid(Strongest.of(pack(probabilities, classes), classes, box()), shape, affine)
    differ = torch.as_tensor(found.astype(np.int64)) != wanted
    assert len(np.unique(found)) == classes
    assert not (differ & (lead > 1e-4)).any(), "they differ only where two classes are equally strong"
    assert differ.float().mean() < 1e-4


def test_three_classes_for_each_place_are_enough() -> None:
    probabilities, (shape, affine) = blobs(40), source()
    wanted, _ = every_class_interpolated(probabilities, shape, affine)
    found = on_grid(Strongest.of(pack(probabilities), 40, box()), shape, affine)
    assert (torch.as_tensor(found.astype(np.int64)) != wanted).float().mean() < 0.01, (
        "where every place has other neighbours"
    )


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_volumes_cut_in_other_directions_are_met_too(order: tuple[int, int, int]) -> None:
    probabilities, (shape, affine) = blobs(4), source()
    straight = on_grid(Strongest.of(pack(probabilities), 4, box()), shape, affine)
    turned = affine[:, [*order, 3]]
    found = on_grid(Strongest.of(pack(probabilities), 4, box()), tuple(shape[a] for a in order), turned)  # type: ignore[arg-type]
    assert np.array_equal(found, straight.transpose(order))


def test_beyond_the_grid_is_background() -> None:
    probabilities = torch.zeros((2, *SIZE))
    probabilities[1] = 1
    shape, affine = source()
    found = on_grid(Strongest.of(pack(probabilities), 2, box()), shape, affine)
    assert found[0].max() == 0 and found[:, 0].max() == 0 and found[:, :, 0].max() == 0
    assert found[20, 26, 32] == 1


def test_shares_are_those_of_the_network() -> None:
    probabilities = blobs(6)
    found = Strongest.of(pack(probabilities), 6, box())
    best = probabilities.topk(2, dim=0)
    for channel in range(6):
        inside = best.indices[0] == channel
        assert torch.equal(found.share(channel)[inside], probabilities[channel][inside])
        assert torch.equal(found.strongest_other(channel)[inside], best.values[1][inside])


def test_more_classes_than_one_byte_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="256 classes"):
        pack(torch.zeros((256, 1, 1, 1)))
