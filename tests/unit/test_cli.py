import subprocess
import sys

import pytest

from isograft import cli
from isograft.errors import IsograftError, LeakageError, RunInterrupted
from isograft.options import spelled
from isograft.verbs import VERBS


def answer(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run the command line in this process: exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as caught:
        cli.main(line.split())
    shown = capsys.readouterr()
    return caught.value.code, shown.out, shown.err


def stub_verb(monkeypatch, name, effect):
    """Replace what a verb does; its settings stay."""

    class Stub(type(VERBS[name])):
        def run(self, settings):
            return effect(settings)

    verb = VERBS[name]
    monkeypatch.setitem(VERBS, name, Stub(verb.name, verb.summary, verb.target, verb.returns, verb.about))


def raiser(error):
    def effect(settings):
        raise error

    return effect


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("pretrain x --out y --epoch 3", "Did you mean --epochs?"),
        ("pretrian x", "there is no command 'pretrian'; did you mean pretrain? (see isograft --help)"),
        ("zzz", "there is no command 'zzz'; there are ingest, audit, pretrain,"),
        ("--verson", "there is no option '--verson'; did you mean --version?"),
        ("--out y pretrain x", "there is no option '--out'; there are --help, --version"),
        ("pretrain x", "--out requires an argument"),
        ("pretrain --out y", "DATA requires an argument"),
        ("pretrain x --out y --method simcl", 'Did you mean "simclr"?'),
        ("pretrain x --out y --epochs 0", "--epochs is '0' but must be a whole number of at least 1, or auto"),
        ("pretrain x --out y --max-time soon", "--max-time: 'soon' is not a duration"),
        ("predict m i --out table.txt", "--out table.txt must end in .csv or .parquet"),
        ("predict m i --out t.csv --labels l.csv", "Unknown option: --labels"),
        ("finetune d --out o --init i --strategy probe --epochs 3", "--epochs 3 would be unused with --strategy probe"),
        ("show m extra", "show has no place for 'extra'"),
        ("study", "STUDY is required: the study file"),
        ("study s.yaml", "--out is required: the folder to write"),
        ("study s.yaml --out o --engine slurm", "--engine"),
        ("study s.yaml --out o --jobs 0", "--jobs is '0' but must be a whole number of at least 1"),
        ("study s.yaml --out o --param x", "--param x is not name=value"),
        ("demo --seed -1", "--seed is '-1' but must be a whole number of at least 0"),
    ],
)
def test_bad_usage_is_one_sentence_on_stderr_and_exit_code_2(line, part, capsys):
    code, out, err = answer(line, capsys)
    assert (code, out) == (2, "")
    assert part in err and err.startswith("isograft: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (IsograftError("the folder x is empty; give one with images"), 2, "isograft: the folder x is empty; give one with images\n"),
        (LeakageError("3 images were seen"), 3, "isograft: 3 images were seen\n"),
        (RunInterrupted("stopped; --resume continues"), 130, "isograft: stopped; --resume continues\n"),
        (KeyboardInterrupt(), 130, "isograft: interrupted\n"),
        (
            PermissionError(13, "Permission denied", "/x/y"),
            2,
            "isograft: Permission denied: /x/y (add --traceback to see where this arose)\n",
        ),
    ],
)
def test_every_way_to_end_early_has_its_exit_code_and_one_sentence(error, code, text, capsys, monkeypatch):
    stub_verb(monkeypatch, "show", raiser(error))
    assert answer("show m", capsys) == (code, "", text)


def test_full_memory_of_machine_or_gpu_is_one_sentence(capsys, monkeypatch):
    """torch's error is known by its class name alone, for torch is not imported to tell."""
    gpu = type("OutOfMemoryError", (RuntimeError,), {})
    for error in (MemoryError(), gpu("CUDA out of memory. Tried to allocate 2.00 GiB")):
        stub_verb(monkeypatch, "show", raiser(error))
        assert answer("show m", capsys) == (
            2, "", "isograft: there is not enough memory; use a smaller --batch-size or --image-size\n",
        )  # fmt: skip


def test_the_error_torch_raises_on_a_full_gpu_is_known():
    torch = pytest.importorskip("torch")
    assert cli.out_of_gpu_memory(torch.cuda.OutOfMemoryError("full"))
    assert not cli.out_of_gpu_memory(RuntimeError("shapes differ"))


def test_traceback_is_shown_only_when_asked_for(monkeypatch):
    stub_verb(monkeypatch, "show", raiser(IsograftError("bad")))
    with pytest.raises(IsograftError, match="bad"):
        cli.main(["show", "m", "--traceback"])


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), RuntimeError("shapes differ")])
def test_a_defect_is_not_dressed_up_as_bad_input(error, monkeypatch):
    stub_verb(monkeypatch, "show", raiser(error))
    with pytest.raises(type(error), match=str(error)):
        cli.main(["show", "m"])


def test_options_reach_the_settings_with_their_types(monkeypatch, capsys):
    seen = []
    stub_verb(monkeypatch, "pretrain", seen.append)
    line = "pretrain pool.parquet --out m --epochs 3 --max-time 1h30m --backbone-arg width=8 --backbone-arg drop=0 --resume --lr 1e-3"
    assert answer(line, capsys) == (0, "", "")
    assert seen == [
        VERBS["pretrain"].settings(
            data="pool.parquet", out="m", epochs=3, max_time=5400, backbone_arg=("width=8", "drop=0"), resume=True, lr=0.001
        )
    ]


def test_several_sources_and_an_optional_positional_are_read(monkeypatch, capsys):
    seen = []
    stub_verb(monkeypatch, "ingest", seen.append)
    stub_verb(monkeypatch, "evaluate", seen.append)
    answer("ingest a b --out m.parquet", capsys)
    answer("evaluate m --out e", capsys)
    answer("evaluate m data.csv --out e", capsys)
    assert [path.name for path in seen[0].source] == ["a", "b"]
    assert [settings.data for settings in seen[1:]] == [None, "data.csv"]


def test_every_verb_and_option_is_in_the_help(capsys):
    _, out, _ = answer("--help", capsys)
    assert all(f" {name} " in out for name in VERBS)
    for verb in VERBS.values():
        _, out, _ = answer(f"{verb.name} --help", capsys)
        assert all(spelled(verb.settings, name) in out for name in verb.settings.model_fields)


def test_version_is_printed(capsys):
    code, out, _ = answer("--version", capsys)
    assert (code, out.strip()) == (0, cli.__version__)


def test_a_reader_that_closes_the_pipe_early_is_not_an_error():
    code = """if True:
        from isograft import cli, console, verbs
        verbs.Verb.run = lambda self, settings: [console.result('line') for _ in range(100_000)]
        cli.main(['show', 'm'])"""
    command = ["bash", "-o", "pipefail", "-c", '"$0" -c "$1" | head -n 1', sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "line\n", "")
