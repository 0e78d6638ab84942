import threading

import pytest

from isograft import console


def test_lines_go_to_stderr_and_results_to_stdout(capsys):
    console.say("reading [pool]")
    console.warn("3 files are corrupt")
    console.result("answer")
    shown = capsys.readouterr()
    assert shown.out == "answer\n"
    assert shown.err == "reading [pool]\nwarning: 3 files are corrupt\n"


def test_progress_without_a_terminal_ends_with_one_line_holding_count_rate_and_fields(capsys):
    with console.Progress(40, "Decoding") as progress:
        for _ in range(40):
            progress.advance(loss=0.25)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Decoding: 40 of 40 images in ")
    assert "images/s" in lines[0] and "loss 0.25" in lines[0]


def test_progress_writes_a_line_with_the_time_left_when_enough_time_has_passed(capsys, monkeypatch):
    monkeypatch.setattr(console, "LINE_SECONDS", 0.0)
    with console.Progress(4, "Training", unit="steps") as progress:
        progress.advance(2)
    assert "Training: 2 of 4 steps" in (first := capsys.readouterr().err.splitlines()[0])
    assert "left" in first


def test_progress_counts_every_advance_from_many_threads(capsys):
    with console.Progress(None, "Decoding") as progress:
        threads = [threading.Thread(target=lambda: [progress.advance() for _ in range(500)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert progress.done == 2000


def test_a_failed_run_is_not_reported_as_finished(capsys):
    with pytest.raises(ValueError, match="stop"), console.Progress(10, "Decoding") as progress:
        progress.advance(3)
        raise ValueError("stop")
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("Decoding: 3 of 10 images, ") and " in " not in line


@pytest.mark.parametrize(("seconds", "text"), [(0.44, "0.4s"), (12.2, "12s"), (59.6, "1m00s"), (200, "3m20s"), (7530, "2h05m")])
def test_durations_read_as_people_write_them(seconds, text):
    assert console.duration(seconds) == text
