"""Processes that train together follow one process that trains alone."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import make_records, make_store
from forking import command
from safetensors.torch import load_file
from together import RESUMED, SHARING, penalised_gradients, start

from medaug_cli.errors import UsageError
from medaug_cli.processes import ALONE, Group, Place, find_place, first_host, joined
from medaug_cli.runs import RunOptions, train_generator
from medaug_cli.runs.training import Budget, TrainingRun
from medaug_cli.store import Record
from medaug_cli.testing.trial import TrialRun
from medaug_plugins.layers import check_shares

SMALL = ["latent=8", "base=64", "max_maps=8", "batches=4:8", "growing=0.8"]


def train(processes: int, folder: Path, *more: object) -> list[tuple[int, str, str]]:
    chosen = [part for pair in SMALL for part in ("--set", pair)]
    common = ["train-gan", folder / "real.h5", "--out", folder / f"gan{processes}", "--device", "cpu", "--json"]
    common += ["--precision", "32", "--checkpoint-seconds", "10000"]
    return start(command([*common, *chosen, *more]), processes)


def checkpoint(folder: Path) -> dict:
    return torch.load(max((folder / "checkpoints").glob("*.pt")), weights_only=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    make_store(folder / "real.h5", make_records(size=16))
    one = train(1, folder, "--generator", "cpggan", "--set", "variety=5", "--set", "reading=1", "--kimg", "0.32")
    two = train(2, folder, "--generator", "cpggan", "--set", "variety=5", "--set", "reading=1", "--kimg", "0.32")
    return folder, one, two


def test_two_processes_follow_one_over_level_changes(runs):
    """Only the order of float32 sums differs, by 1e-7 of a gradient; but Adam divides by the gradient's size, so that
    rounding grows with it. A tenth of one of Adam's steps of 1e-3 is allowed after 40 steps, a hundredth to most."""
    folder, one, two = runs
    assert [code for code, *_ in one + two] == [0, 0, 0], one + two
    first, second = checkpoint(folder / "gan1")["state"], checkpoint(folder / "gan2")["state"]
    assert (first["done"], first["steps"], first["lod"]) == (second["done"], second["steps"], second["lod"])
    lods = {json.loads(line)["lod"] for line in (folder / "gan1" / "metrics.jsonl").read_text("utf-8").splitlines()}
    assert len(lods) > 2
    for network in ("generator", "discriminator"):
        difference = torch.cat([(first[network][k] - second[network][k]).abs().flatten() for k in first[network]])
        assert difference.max() < 1e-4, network
        assert difference.quantile(0.99) < 1e-5, network
    weights, others = (load_file(folder / name / "generator.safetensors") for name in ("gan1", "gan2"))
    assert all(torch.allclose(weights[name], others[name], atol=1e-4) for name in weights)


def test_the_first_process_alone_writes_and_speaks(runs):
    folder, _, two = runs
    assert json.loads(two[0][1]) == {"generator": str(folder / "gan2")}
    assert "in 2 processes" in two[0][2]
    assert two[1][1:] == ("", "")
    files = [sorted(str(p.relative_to(folder / g)) for p in (folder / g).rglob("*")) for g in ("gan1", "gan2")]
    assert files[0] == files[1]


def seen_by(name: str) -> str:
    """Return the store that a generator is fitted on."""
    return "partly.h5" if name.endswith("unannotated") else "real.h5"


def partly_annotated() -> Iterator[Record]:
    """Yield records of which those of two training patients are not annotated."""
    for record in make_records(size=16):
        known = record.patient not in ("p0", "p1")
        yield record if known else replace(record, boxes=record.boxes[:0], labels=[], annotated=False)


def train_together(folder: Path) -> None:
    """Train every sharing generator in the processes of a run, and one of them in two parts."""
    with joined("cpu") as group:

        def fit(name: str, out: str, share: float = 1.0, resume: bool = False) -> None:
            kimg, settings = SHARING[name]
            options = RunOptions(folder / out, settings, 0, "cpu", "32", resume=resume, group=group)
            train_generator(folder / seen_by(name), name.split("-")[0], options, share * kimg)

        torch.save(penalised_gradients(group), folder / f"gradients{group.rank}.pt")
        for name in SHARING:
            fit(name, f"{name}2")
        fit(RESUMED, "resumed", 0.5)
        fit(RESUMED, "resumed", resume=True)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharing")
    make_store(folder / "real.h5", make_records(size=16))
    make_store(folder / "partly.h5", partly_annotated())
    outcomes = start(partial(train_together, folder), 2)
    assert [code for code, *_ in outcomes] == [0, 0], outcomes
    return folder


def test_gradients_of_gradients_find_the_way_through_the_whole_batch(together):
    """Both processes get what one gets with the whole batch; its one group of four lies in both."""
    alone = penalised_gradients(ALONE)
    for rank in range(2):
        shared = torch.load(together / f"gradients{rank}.pt", weights_only=True)
        for one, two in zip(alone, shared, strict=True):
            torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-5)
    assert max(gradient.abs().max() for gradient in alone) > 0.1


@pytest.mark.parametrize("name", SHARING)
def test_what_is_of_the_whole_batch_is_shared(together, name):
    """As above: the deviation of groups that lie in both processes, wrong boxes, finding, variety, augmentation.

    After 10 or 20 of Adam's steps of 1e-3 to 4e-3 a tenth of one is allowed, a hundredth to most.
    """
    kimg, settings = SHARING[name]
    options = RunOptions(together / f"{name}1", settings, 0, "cpu", "32")
    train_generator(together / seen_by(name), name.split("-")[0], options, kimg)
    one, two = (checkpoint(together / f"{name}{n}")["state"] for n in (1, 2))
    step = settings.get("lr", 0.001)
    assert (one["done"], one["steps"]) == (two["done"], two["steps"]) == (1000 * kimg, 250 * kimg)
    for network in {"generator", "discriminator", "painter", "judge"} & one.keys():
        difference = torch.cat([(one[network][k] - two[network][k]).abs().flatten() for k in one[network]])
        assert difference.max() < step / 10, network
        assert difference.quantile(0.99) < step / 100, network
    if "augment" in one:
        assert one["augment"] == pytest.approx(two["augment"], abs=1e-9)
        assert ("target" in settings) == (one["augment"] != 0.8)  # ADA moves it
        assert float(one["found_real"]) == pytest.approx(float(two["found_real"]), rel=1e-3)


def test_a_run_that_several_processes_resume_equals_an_uninterrupted_one(together):
    uninterrupted, resumed = (checkpoint(together / name)["state"] for name in (f"{RESUMED}2", "resumed"))
    assert digest(resumed) == digest(uninterrupted)


def digest(state: object) -> str:
    """Return a hash of a nested state, to the bit."""
    found = hashlib.sha256()
    if isinstance(state, dict):
        for key, value in state.items():
            found.update(f"{key}:{digest(value)}".encode())
    else:
        found.update(state.numpy().tobytes() if isinstance(state, torch.Tensor) else repr(state).encode())
    return found.hexdigest()


def talk() -> None:
    """Average, agree, fail and compare."""
    with joined("cpu") as group:
        tensors = [torch.full((2, 3), float(group.rank)), torch.tensor([group.rank + 1.0], dtype=torch.float64)]
        group.average(tensors)
        assert torch.equal(tensors[0], torch.full((2, 3), 0.5))
        assert tensors[1].item() == 1.5
        assert group.agree(group.rank) == group.lead(lambda: group.rank) == 0
        with pytest.raises(Exception, match="invalid literal") as failed:
            group.lead(lambda: int("a"))
        assert (failed.type is ValueError) == group.leads
        group.check_alike({"seed": 1})
        with pytest.raises(UsageError, match="were started with different options"):
            group.check_alike({"seed": group.rank})


def test_what_processes_tell_each_other():
    assert start(talk, 2) == [(0, "", "")] * 2


class Listening(Group):
    """A process that notes what it agrees on with others, who are not there."""

    def __init__(self, rank: int) -> None:
        super().__init__(rank, 2, rank)
        object.__setattr__(self, "said", [])

    def average(self, tensors: object) -> None:
        self.said.append("average")

    def agree(self, value):
        self.said.append(type(value).__name__)
        return value

    def lead(self, work):
        self.said.append("lead")
        return work()


def test_processes_agree_on_the_time_wherever_one_of_them_asks_for_it(tmp_path):
    """One that asks alone takes the next answer for its own: with --minutes a run broke off at its first log."""
    heard = []
    for rank in range(2):
        (tmp_path / str(rank)).mkdir()
        group = Listening(rank)
        run = TrainingRun(tmp_path / str(rank), "cpu", "32", 0, 0, Budget(minutes=5.0), group=group)
        assert run.fraction(0) < 1
        run.log(4, loss=1.0)
        run.checkpoint(4, dict)
        heard.append(group.said)
    assert heard[0] == heard[1]


def test_a_plugin_that_does_not_share_is_refused_among_several(tmp_path):
    make_store(tmp_path / "real.h5", make_records(size=16))
    options = RunOptions(tmp_path / "out", group=Group(0, 2, 0))
    with pytest.raises(UsageError, match="copy-paste trains in one process, but 2 were started"):
        train_generator(tmp_path / "real.h5", "copy-paste", options)


def test_a_batch_that_cannot_be_shared_is_refused():
    check_shares(8, TrialRun(1, world=4))
    with pytest.raises(UsageError, match="3 processes cannot share a batch of 8 equally"):
        check_shares(8, TrialRun(1, world=3))


TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu7", "MASTER_PORT": "1234"}
SRUN = {
    "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "gpu[07-09]",
    "SLURM_JOB_ID": "5", "SLURM_STEP_ID": "2",
}  # fmt: skip


def test_processes_find_their_place():
    assert find_place(TORCHRUN) == Place(3, 4, 1, "gpu7", 1234)
    assert find_place(SRUN) == Place(3, 4, 1, "gpu07", 15322)
    assert find_place(SRUN | {"MASTER_PORT": "77", "MASTER_ADDR": "gpu08"}) == Place(3, 4, 1, "gpu08", 77)
    assert find_place({}) is find_place(TORCHRUN | {"WORLD_SIZE": "1", "RANK": "0"}) is None
    batch_script = {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}
    assert find_place(batch_script) is None
    for broken in (TORCHRUN | {"RANK": "x"}, {"SLURM_STEP_NUM_TASKS": "2"}):
        with pytest.raises(UsageError, match="cannot be counted"):
            find_place(broken)


@pytest.mark.parametrize(
    ("nodes", "host"), [("a", "a"), ("a,b", "a"), ("a[1-3,7],b", "a1"), ("n-[007,9]-x", "n-007-x"), ("r1n[2]", "r1n2")]
)
def test_the_first_host_of_slurms_list(nodes, host):
    assert first_host(nodes) == host


def test_one_process_alone_needs_no_connection():
    tensor = torch.ones(2)
    ALONE.average([tensor])
    ALONE.check_alike(object())
    assert tensor.tolist() == [1, 1]
    assert ALONE.leads
    assert ALONE.agree(5) == ALONE.lead(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        ALONE.lead(lambda: 1 / 0)
