"""What a machine does to a program: each fault becomes one sentence, and leaves nothing behind."""

import ctypes
import errno
import fcntl
import os
import resource
import shutil
import signal
import subprocess
import sys

import inside
import pytest
from conftest import make_store
from forking import changes_of, dying, medaug
from writing_commands import WRITING

import medaug_cli.files

pytestmark = pytest.mark.usefixtures("tiny_plugins", "undrawn")
COMMANDS = ("preprocess", "train-gan", "train-detector", "synthesize", "filter", "store export", "export")


def failing(name, number, at=1):
    """Return what lets a function of `os` fail from its so-manieth call on, as a disk does."""

    def before():
        plain, calls = getattr(os, name), [0]

        def call(*arguments, **more):
            calls[0] += 1
            if calls[0] >= at:
                raise OSError(number, os.strerror(number), str(arguments[0]))
            return plain(*arguments, **more)

        setattr(os, name, call)

    return before


def full_disk(limit):
    def before():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return before


def closed(*streams):
    def before():
        import sys

        for number in streams:
            os.close(number)
            setattr(sys, ("stdin", "stdout", "stderr")[number], None)

    return before


def everything(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != "said.txt"}


FAULTS = {
    "an error as files are flushed": (failing("fsync", errno.EIO), "Input/output error"),
    "an error as files are renamed": (failing("replace", errno.EIO), "Input/output error"),
    "a disk without room": (failing("fsync", errno.ENOSPC), "No space left"),
    "a quota that is used up": (failing("fsync", errno.EDQUOT), "quota"),
    "files that may not grow": (full_disk(700), "File too large"),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Return a function that puts into a folder what a command reads, made once."""
    made = {}

    def put(name, place):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("prepared")
            WRITING[name].prepare(made[name])
        shutil.copytree(made[name], place, dirs_exist_ok=True)

    return put


@pytest.mark.parametrize("name", COMMANDS)
def test_a_fault_of_the_disk_is_one_sentence(name, tmp_path, prepared):
    writing = WRITING[name]
    prepared(name, tmp_path)
    was = everything(tmp_path)
    for fault, (before, word) in FAULTS.items():  # each goes over what the one before has left
        code = medaug([*writing.command, "--overwrite"], tmp_path, prepare=before)
        left = [path for path in everything(tmp_path) - was if not path.startswith(f"{writing.out}.parts")]
        assert (code, left) == (1, []), fault
        if fault != "files that may not grow":  # nor may what it says
            said = (tmp_path / "said.txt").read_text(encoding="utf-8").strip()
            assert said.splitlines()[-1].startswith("medaug: ")
            assert word in said.splitlines()[-1]
            assert "Traceback" not in said
    assert medaug([*writing.command, "--overwrite"], tmp_path) == 0
    assert writing.leftovers(tmp_path) == []


@pytest.mark.parametrize("streams", [(1,), (0, 1), (0, 1, 2), (2,)])
def test_closed_streams_change_no_file(streams, tmp_path, prepared):
    writing = WRITING["synthesize"]
    prepared("synthesize", tmp_path)
    assert medaug(writing.command, tmp_path) == 0
    whole = writing.results(tmp_path)
    writing.clear(tmp_path)
    assert medaug(writing.command, tmp_path, prepare=closed(*streams)) == 0
    assert writing.results(tmp_path) == whole


def without_locks():
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl.lockf = refuse


def without_exchange():
    medaug_cli.files._exchange = lambda one, other: False


def without_flushed_folders():
    def refuse(handle):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    os.fsync = refuse


@pytest.mark.parametrize("lacking", [without_locks, without_exchange, without_flushed_folders])
def test_a_file_system_that_lacks_something_is_written_to(lacking, tmp_path, prepared):
    writing = WRITING["store export"]
    prepared("store export", tmp_path)
    assert medaug(writing.command, tmp_path, prepare=lacking) == 0
    old = writing.results(tmp_path)
    assert medaug([*writing.command, *writing.other, "--overwrite"], tmp_path, prepare=lacking) == 0
    assert writing.results(tmp_path) != old
    assert writing.leftovers(tmp_path) == []


def test_a_kill_between_two_renames_loses_no_folder(tmp_path):
    writing = WRITING["store export"]
    writing.prepare(tmp_path)
    assert medaug(writing.command, tmp_path) == 0
    old = writing.results(tmp_path)
    seen = []
    for at in range(changes_of([*writing.command, "--overwrite"], tmp_path) + 4):

        def before(at=at):
            without_exchange()
            dying(at, names=("replace",))()

        ended = medaug([*writing.command, "--overwrite"], tmp_path, prepare=before) == 0
        seen.append((tmp_path / "exported").exists())
        assert writing.results(tmp_path) == old
        if ended:
            break
    assert ended
    assert not all(seen)  # there was a moment without it, which is made good
    assert writing.leftovers(tmp_path) == []


def without_rights():
    """Let root be held to the rights of files, as everybody else is."""
    system = ctypes.CDLL(None, use_errno=True)
    version, rights = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert system.capget(version, rights) == 0
    rights[0] &= ~0b1110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
    assert system.capset(version, rights) == 0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux's rights")
@pytest.mark.parametrize("name", ["store export", "filter", "train-gan"])
def test_a_folder_that_may_not_be_written_is_named_by_the_result(name, tmp_path, prepared):
    writing = WRITING[name]
    prepared(name, tmp_path)
    (tmp_path / "said.txt").touch()
    was = everything(tmp_path)
    tmp_path.chmod(0o555)
    try:
        assert medaug(writing.command, tmp_path, prepare=without_rights) == 1
    finally:
        tmp_path.chmod(0o755)
    said = (tmp_path / "said.txt").read_text(encoding="utf-8").strip().splitlines()[-1]
    assert said == f"medaug: {writing.out} cannot be written (Permission denied); existing results are unchanged"
    assert everything(tmp_path) == was


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux's rights")
def test_what_may_not_be_read_is_not_called_unwritable(tmp_path):
    make_store(tmp_path / "real.h5")
    assert medaug(WRITING["train-gan"].command, tmp_path) == 0
    for name in ("boxes.json", "gan/generator.json", "gan/generator.safetensors", "gan/plan.json", "gan"):
        rights = (tmp_path / name).stat().st_mode
        (tmp_path / name).chmod(0)
        line = ("synthesize", "--n", "4", *(("--boxes", "boxes.json") if name == "boxes.json" else ()))
        assert medaug(line, tmp_path, prepare=without_rights) in (1, 2, 3)
        (tmp_path / name).chmod(rights)
        said = (tmp_path / "said.txt").read_text(encoding="utf-8").strip().splitlines()[-1]
        assert said.startswith("medaug: ")
        assert f"{name} cannot be read" in said or name == "gan"
        assert "be written" not in said
        assert "Permission denied" in said


def test_a_store_is_not_called_damaged_where_no_handle_is_left(tmp_path):
    make_store(tmp_path / "real.h5")

    def before():
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")), 1024))

    assert medaug(("store", "info", "real.h5"), tmp_path, prepare=before) in (1, 3)
    said = (tmp_path / "said.txt").read_text(encoding="utf-8").strip().splitlines()[-1]
    assert "Too many open files" in said
    assert "damaged" not in said


def test_no_home_is_no_matter_for_pictures():
    homeless = {"HOME": "/dev/null/none", "PATH": os.environ["PATH"]}
    code = "from medaug_cli.figures.drawing import quiet_matplotlib as quiet; quiet()"
    done = subprocess.run([sys.executable, "-c", code], env=homeless, capture_output=True, text=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")


INFINITE = (
    "train-gan real.h5 --kimg inf", "train-gan real.h5 --minutes nan", "train-gan real.h5 --checkpoint-seconds nan",
    "train-gan real.h5 --generator tiny --set amount=nan", "train-gan real.h5 --generator tiny --set pause=inf",
    "train-detector real.h5 --ratio nan", "train-detector real.h5 --epochs inf", "synthesize --n 3 --jitter nan",
    "evaluate real.h5 d --iou nan", "evaluate real.h5 d --threshold inf", "filter s.h5 --real-share nan",
    "tsne real.h5 s.h5 --perplexity inf", "study real.h5 --arm tiny --fraction nan",
    "study real.h5 --arm tiny --ratio inf",
    "detect real.h5 d --threshold nan", "preprocess scans --boxes b.csv --regions 32 --region-mm inf",
)  # fmt: skip


@pytest.mark.parametrize("line", INFINITE)
def test_an_option_takes_no_infinite_number(line, real):
    was = everything(real.parent)
    assert inside.medaug(line.split(), real.parent) == 2
    said = (real.parent / "said.txt").read_text(encoding="utf-8")
    assert "finite number" in said or "Input should be" in said
    assert "Traceback" not in said
    assert everything(real.parent) == was
