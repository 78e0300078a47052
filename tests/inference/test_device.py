"""Where a network runs."""

import os

import pytest
import torch

from radnode_inference import device


def test_auto_is_a_gpu_only_where_there_is_one() -> None:
    assert device.resolve("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device.resolve("cpu").type == "cpu"


def test_a_device_that_is_not_known_is_refused() -> None:
    with pytest.raises(device.NoDeviceError, match="tpu"):
        device.resolve("tpu")


@pytest.mark.parametrize(("load", "most"), [(0.0, 64), (1000.0, 1)])
def test_a_busy_machine_gets_one_thread_and_the_setting_comes_back(
    monkeypatch: pytest.MonkeyPatch, load: float, most: int
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    before = torch.get_num_threads()
    with device.threads() as idle:
        assert torch.get_num_threads() == idle <= most
    assert torch.get_num_threads() == before
