"""The precision that is chosen is the faster one."""

import pytest
import torch

from medaug_cli import devices


@pytest.mark.parametrize(
    ("able", "gains", "chosen"),
    [
        ({"avx512_bf16": True}, True, "bf16"),
        ({"avx512_bf16": True}, False, "32"),  # instructions that are there, and slow
        ({"bf16": True}, True, "bf16"),
        ({"amx_bf16": True}, False, "bf16"),
        ({}, True, "32"),
    ],
)
def test_bf16_is_chosen_where_it_is_faster(monkeypatch, able, gains, chosen):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr(devices, "_bf16_gains", lambda: gains)
    assert devices.resolve_precision("auto", "cpu") == chosen
    assert devices.resolve_precision("bf16", "cpu") == "bf16"


def test_a_gpu_trains_in_float32_unless_asked_otherwise(monkeypatch):
    monkeypatch.setattr(devices, "has_fast_bf16", lambda device: True)
    assert devices.resolve_precision("auto", "cuda:0") == "32"
    assert devices.resolve_precision("auto", "mps") == "32"
    assert devices.resolve_precision("bf16", "cuda:0") == "bf16"


@pytest.mark.parametrize(("factor", "gains"), [(0.5, True), (1.0, False), (2.0, False)])
def test_the_gain_of_bf16_is_measured(monkeypatch, factor, gains):
    seen = []

    def seconds(work):
        seen.append(work().dtype)
        return factor if seen[-1] == torch.bfloat16 else 1.0

    monkeypatch.setattr(devices, "_seconds", seconds)
    devices._bf16_gains.cache_clear()
    assert devices._bf16_gains() is gains
    devices._bf16_gains.cache_clear()
    assert set(seen) == {torch.float32, torch.bfloat16}
