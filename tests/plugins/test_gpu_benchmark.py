"""The benchmark for GPUs does its work on a CPU too, in small, and keeps what is done when a part runs out of time."""

import importlib.util
import json
import sys
import time
from pathlib import Path

import pytest
from conftest import make_records, make_store
from safetensors.torch import load_file

from medaug_cli.runs import load_generator

PLACE = Path(__file__).parents[2] / "benchmarks/gpu.py"
LACKING = ("SimpleITK", "pydicom", "sklearn")


@pytest.fixture(scope="module")
def gpu():
    """Import the benchmark, as on a machine that has neither scans nor scikit-learn."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] in LACKING]:
            patch.delitem(sys.modules, name)
        for name in LACKING:
            patch.setitem(sys.modules, name, None)
        spec = importlib.util.spec_from_file_location("gpu_benchmark", PLACE)
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "gpu_benchmark", module)
        spec.loader.exec_module(module)
        patch.setattr(module, "GENERATORS", ("boxgan",))
        patch.setattr(module, "TRAINED", {"boxgan": 1.0})
        patch.setattr(module, "names", lambda kind: ["yolov3"])
        patch.setattr(module, "STEPS", 10)
        yield module


@pytest.fixture
def bench(gpu, tmp_path):
    store = make_store(tmp_path / "real.h5", make_records(24, size=16))
    made = gpu.Bench(store, "cpu", tmp_path / "out", toy=True, until=time.monotonic() + gpu.RESERVE)
    made.results["machine"] = gpu.machine("cpu")
    return made


def test_one_processor_follows_itself(gpu, bench):
    for row in gpu.agree(bench):
        assert "failed" not in row
        assert row["losses"] == [0]
        assert row["answers"] == row["again"] == row["resumed"] == 0


def test_speed_is_measured(gpu, bench):
    convolutions, rows = [], []
    for row in gpu.speed(bench):
        (convolutions if row["network"] == "fastest convolution" else rows).append(row)
    assert all(row["tflops"] > 0 for row in convolutions)
    assert [row["precision"] for row in convolutions] == ["32", "bf16"]
    assert [row["network"] for row in rows] == ["cpggan", "boxgan"]
    for row in rows:
        assert "failed" not in row
        assert row["training"] > 0 < row["drawing"]
        assert row["share"] > 0
        assert row["memory"] is None


def test_weights_and_grids_are_kept(gpu, bench):
    (row,) = gpu.train(bench)
    assert "failed" not in row
    assert gpu.images_of(bench.out / "train/boxgan") == row["images"]
    assert load_file(bench.out / "train/boxgan/generator.safetensors")
    assert load_generator(bench.out / "train/boxgan")[1].name == "boxgan"
    assert (bench.out / "train/boxgan.png").stat().st_size > 1000


def test_what_is_done_stays_when_a_part_fails_or_runs_out_of_time(gpu, bench, monkeypatch):
    def slow(bench):
        yield {"network": "quick", "losses": {"d": 1.5}}
        time.sleep(60)

    def broken(bench):
        yield {"network": "first", "answers": 0.25}
        raise ValueError("no memory")

    monkeypatch.setattr(gpu, "PARTS", {"agree": slow, "speed": broken})
    monkeypatch.setattr(gpu, "SHARES", {"agree": 0.001, "speed": 1.0})
    begun = time.monotonic()
    gpu.run(bench, ("agree", "speed"), 1.0)
    assert time.monotonic() - begun < 30
    found = json.loads((bench.out / "gpu.json").read_text(encoding="utf-8"))
    assert found["agree"]["ended"] == "out of time"
    assert found["agree"]["rows"] == [{"network": "quick", "losses": {"d": 1.5}}]
    assert found["speed"]["ended"] == "ValueError: no memory"
    text = (bench.out / "gpu.md").read_text(encoding="utf-8")
    assert "| quick | d 1.5 |" in text
    assert "| first | 0.25 |" in text


def test_images_are_resized_with_their_boxes(gpu, bench):
    small, large = bench.examples(16), bench.examples(32)
    assert large.read([0, 1]).shape == (2, 1, 32, 32)
    assert (large.boxes[0] == 2 * small.boxes[0]).all()
    assert large.condition(0).spatial == (32, 32)
