"""Sliding a window, sampling and coming back to the source grid."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from radnode_inference import device
from radnode_inference.preprocess import Box, body_bounds, ras_box, sample
from radnode_inference.preprocess import window as scaled
from radnode_inference.window import labels, slide


def oblique() -> np.ndarray:
    """An affine with a rotation about all axes and three different spacings, left-handed as stacks are."""
    angles = np.radians((18.0, -12.0, 9.0))
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    turn = np.array([[cy * cz, -sz, sy], [sz, cz * cx, -sx], [-sy, sx, cx * cy]])
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(turn)[0] * np.array([2.0, 1.5, -1.25])
    affine[:3, 3] = (-40, 12, 30)
    return affine


@pytest.mark.parametrize("shape", [(40, 30, 50), (20, 16, 33), (10, 12, 14)])
def test_the_blended_output_is_monais(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    net = nn.Conv3d(1, 3, 3, padding=1).eval()
    volume = torch.rand((1, *shape))
    told: list[float] = []
    with torch.inference_mode():
        ours = slide(volume, (16, 16, 16), net, overlap=0.5, done=told.append)
        theirs = sliding_window_inference(volume[None], (16, 16, 16), 1, net, overlap=0.5, mode="gaussian")[0]
    assert ours.shape == (3, *shape)
    assert (ours - theirs).abs().max() < 1e-4
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_a_window_that_is_stopped_stops() -> None:
    def stop(_: float) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        slide(torch.zeros(1, 8, 8, 8), (4, 4, 4), nn.Identity(), overlap=0.0, done=stop)


def test_sampling_finds_each_voxel_where_the_affine_says() -> None:
    rng = np.random.default_rng(0)
    voxels, affine = rng.random((9, 8, 7)).astype(np.float32), oblique()
    got = sample(voxels, affine, Box(size=(9, 8, 7), affine=affine))
    assert np.allclose(got, voxels, atol=1e-5)
    half = affine.copy()
    half[:3, 3] += affine[:3, 0] / 2
    between = sample(voxels, affine, Box(size=(8, 8, 7), affine=half)).numpy()
    assert np.allclose(between, (voxels[1:] + voxels[:-1]) / 2, atol=1e-4)


def test_sampling_beyond_the_volume_gives_the_value_for_outside() -> None:
    affine = np.eye(4)
    beyond = np.eye(4)
    beyond[0, 3] = 10
    got = sample(np.ones((4, 4, 4), np.float32), affine, Box(size=(4, 4, 4), affine=beyond), outside=-7.0)
    assert (got == -7.0).all()


@pytest.mark.parametrize("affine", [np.diag([3.0, 2.0, 1.5, 1.0]), np.diag([-3.0, 2.0, -1.5, 1.0]), oblique()])
def test_the_ras_grid_covers_the_volume_with_axes_right_front_head(affine: np.ndarray) -> None:
    box = ras_box((12, 20, 16), affine, (2.0, 2.0, 2.0))
    assert np.allclose(box.affine[:3, :3], np.diag([-2.0, -2.0, 2.0]))
    corners = np.array([[i, j, k, 1] for i in (0, 11) for j in (0, 19) for k in (0, 15)]) @ affine.T
    inside = corners @ np.linalg.inv(box.affine).T
    assert (inside[:, :3] > -1.01).all()
    assert (inside[:, :3] < np.array(box.size) + 0.01).all()


def test_the_body_is_found_and_a_wire_is_not() -> None:
    image: Tensor = torch.zeros(40, 40, 40)
    image[10:30, 12:28, 5:35] = 1
    image[35, 20, 20] = 1
    assert body_bounds(image, 0.5, margin=0) == ((10, 12, 5), (30, 28, 35))
    assert body_bounds(torch.zeros(4, 5, 6), 0.5) == ((0, 0, 0), (4, 5, 6))


def test_the_window_is_cut_at_both_ends() -> None:
    assert scaled(torch.tensor([-2000.0, -1000.0, -300.0, 400.0, 900.0]), -1000, 400).tolist() == [0, 0, 0.5, 1, 1]


@pytest.mark.parametrize("shape", [(40, 30, 50), (20, 41, 33), (10, 12, 14), (17, 16, 12)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.75])
def test_labels_finished_slab_by_slab_are_those_of_the_whole(shape: tuple[int, int, int], overlap: float) -> None:
    torch.manual_seed(0)
    net = nn.Conv3d(1, 5, 3, padding=1).eval()
    volume = torch.rand((1, *shape))
    with torch.inference_mode():
        streamed = slide(volume, (16, 12, 8), net, overlap=overlap, done=lambda _: None, finish=labels)
        theirs = sliding_window_inference(volume[None], (16, 12, 8), 1, net, overlap=overlap, mode="gaussian")[0]
    assert streamed.dtype == torch.uint8
    assert streamed.shape == (1, *shape)
    assert (streamed[0] == theirs.argmax(dim=0)).float().mean() > 0.9999


def test_no_more_planes_than_a_window_is_deep_are_finished_at_a_time() -> None:
    seen: list[tuple[int, ...]] = []

    def note(slab: Tensor) -> Tensor:
        seen.append(tuple(slab.shape))
        return slab[:1]

    out = slide(torch.rand(1, 12, 60, 16), (8, 8, 8), nn.Conv3d(1, 3, 1), overlap=0.5, done=lambda _: None, finish=note)
    assert out.shape == (1, 12, 60, 16)
    assert len(seen) > 5
    assert all(shape[0] == 3 and shape[2] <= 8 for shape in seen)


def test_the_batch_is_as_large_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    with device.Meter(cpu) as meter:
        torch.ones(64, 1024, 1024).sum()
    assert meter.used > 200 * 2**20
    assert meter.fit(2) == 2
    monkeypatch.setattr(device.psutil, "virtual_memory", lambda: SimpleNamespace(available=meter.used))
    assert meter.fit(2) == 1
