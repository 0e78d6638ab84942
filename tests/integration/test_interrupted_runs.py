"""SIGTERM, SIGUSR1 and a requeued job: the state is saved, the exit code is 143, and what goes on ends in the same bytes."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from tests.integration.faults import STORIES, Runs, at_step, signalled, weights

from isograft.cli import main
from isograft.errors import RunInterrupted
from isograft.train import prepare
from isograft.train.callbacks import Checkpoint
from isograft.train.selection import BestOnValidation

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "interrupted-runs.md"


def ended(words: list[str]) -> Any:
    with pytest.raises(SystemExit) as caught:
        main(words)
    return caught.value.code


@pytest.mark.parametrize("story", STORIES)
def test_sigterm_saves_the_state_and_ends_with_143_and_the_resumed_run_ends_in_the_same_bytes(
    story: str, train: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = weights(train(story, "whole"))
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    with monkeypatch.context() as patch:
        signalled(patch, story, 3, signal.SIGTERM)
        assert ended(train.command(story, "stopped")) == 143
    assert re.search(r"isograft: stopped at step 4 of \d+; the state is in .*: add --resume", capfd.readouterr().err)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == before
    assert not (tmp_path / "stopped" / ".lock").exists()
    assert ended(train.command(story, "stopped", "--resume")) == 0
    assert weights(tmp_path / "stopped") == whole


@pytest.mark.parametrize("story", ["pretrain", "finetune"])
def test_sigterm_in_the_last_step_stops_the_run_with_its_state_saved(story: str, train: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = weights(train(story, "whole"))
    last = 11 if story == "pretrain" else 7
    with monkeypatch.context() as patch:
        signalled(patch, story, last, signal.SIGTERM)
        with pytest.raises(RunInterrupted) as caught:
            train(story, "stopped")
    assert caught.value.exit_code == 143
    assert weights(train(story, "stopped", resume=True)) == whole


@pytest.mark.parametrize("story", ["pretrain", "finetune"])
def test_sigusr1_saves_the_state_and_goes_on(story: str, train: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = weights(train(story, "whole"))
    saved: list[int] = []
    save = Checkpoint.save
    monkeypatch.setattr(Checkpoint, "save", lambda self, trainer: (saved.append(trainer.global_step), save(self, trainer)))
    signalled(monkeypatch, story, 2, signal.SIGUSR1)
    assert weights(train(story, "told")) == whole
    assert 3 in saved


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_second_signal_does_not_wait_for_the_step_to_end(
    number: int, code: int, train: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    after: list[str] = []

    def twice() -> None:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        after.append("went on")

    at_step(monkeypatch, "pretrain", 5, twice)
    assert ended(train.command("pretrain", "stopped")) == code
    assert after == []
    assert (tmp_path / "stopped" / "checkpoints" / "last.ckpt").is_file()
    assert not (tmp_path / "stopped" / ".lock").exists()


def test_sigterm_before_the_first_step_ends_with_143_and_leaves_nothing_behind(
    train: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def told(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)  # passed over
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal was passed over")

    monkeypatch.setattr(prepare, "open_start", told)
    assert ended(train.command("finetune", "out")) == 143
    assert "isograft: ended by SIGTERM; repeat the command, with --resume where --out holds" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_sigterm_while_a_cache_is_written_leaves_no_half_cache(train: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from isograft.data import cache_build

    decode, caller = cache_build._decoded, os.getpid()

    def decoded(*given: Any) -> Any:
        for number, image in enumerate(decode(*given)):
            if number == 5:
                os.kill(caller, signal.SIGTERM)
            yield image

    monkeypatch.setattr(cache_build, "_decoded", decoded)
    assert ended(train.command("pretrain", "out")) == 143
    assert [path for path in (tmp_path / "cache").rglob("*") if path.suffix in {".tmp", ".cache", ".part"}] == []
    assert not (tmp_path / "out").exists()


def test_a_run_stopped_in_the_step_after_which_it_had_waited_long_enough_ends_there(train: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BestOnValidation, "_waited_long", lambda self, step: step >= 4)
    whole = weights(train("finetune", "whole"))
    with monkeypatch.context() as patch:
        signalled(patch, "finetune", 3, signal.SIGTERM)
        with pytest.raises(RunInterrupted, match="stopped at step 4"):
            train("finetune", "stopped")
    seen: list[int] = []
    at_step(monkeypatch, "finetune", 4, lambda: seen.append(4))
    assert weights(train("finetune", "stopped", resume=True)) == whole
    assert seen == []


def test_lightning_keeps_its_hands_off_a_slurm_job(train: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "hpc_ckpt_1.ckpt").write_bytes(b"a state of another program")
    monkeypatch.chdir(work)
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_JOB_NAME": "job", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    signalled(monkeypatch, "pretrain", 2, signal.SIGUSR1)
    train("pretrain", "model")
    assert [path.name for path in work.iterdir()] == ["hpc_ckpt_1.ckpt"]


def test_the_job_script_of_the_page_puts_the_job_back_and_then_resumes_it(images: Path, tmp_path: Path) -> None:
    (script,) = [block for block in re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL) if "SBATCH" in block]
    stand_ins, queue = tmp_path / "bin", tmp_path / "queue"
    stand_ins.mkdir()
    runs = f"""\
        #!{sys.executable}
        import os, signal, sys
        from isograft.cli import main
        from isograft.train.pretrain_module import PretrainModule

        step = PretrainModule.training_step

        def training_step(self, batch, batch_idx):
            if self.global_step == 1 and "--resume" not in sys.argv:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(self, batch, batch_idx)

        PretrainModule.training_step = training_step
        given = sys.argv[2:]
        given[given.index("--epochs") + 1] = "1"
        main([*given, "--backbone", "test_resnet", "--image-size", "32", "--batch-size", "16", "--cache-dir", "cache", "--threads", "1"])
        """
    for name, content in {"srun": textwrap.dedent(runs), "scontrol": f'#!/bin/sh\necho "$*" >> {queue}\n'}.items():
        (stand_ins / name).write_text(content)
        (stand_ins / name).chmod(0o755)
    assert ended(["ingest", str(images), "--out", str(tmp_path / "pool.parquet")]) == 0
    environment = {**os.environ, "PATH": f"{stand_ins}:{os.environ['PATH']}", "SLURM_JOB_ID": "42", "OMP_NUM_THREADS": "1"}
    codes = []
    for _ in range(2):
        job = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        codes.append(job.returncode)
    assert codes == [143, 0], job.stderr
    assert queue.read_text() == "requeue 42\n"
    assert (tmp_path / "models" / "backbone" / "model.json").is_file()
