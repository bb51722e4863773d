"""The command line and the faults on it."""

from pathlib import Path

import pytest

from comfyserve.engine.faults import Fault, FaultKind, Faults
from comfyserve.engine.options import CacheMode, Options, parse_options

CWD = Path("/somewhere")


def parse(*argv: str) -> Options:
    return parse_options(argv, CWD)


def test_the_defaults_are_those_of_comfyui() -> None:
    options = parse()
    assert (options.addresses, options.port) == (("127.0.0.1",), 8188)
    assert options.max_upload_bytes == 100 * 1024 * 1024
    assert options.cache is CacheMode.MEMORY
    assert options.directories.input == CWD / "input"
    assert options.directories.temp == CWD / "temp"
    assert options.has_metadata


@pytest.mark.parametrize(
    ("listen", "addresses"),
    [
        (["--listen"], ("0.0.0.0", "::")),
        (["--listen", "127.0.0.1,::1"], ("127.0.0.1", "::1")),
        (["--listen", "--port", "1"], ("0.0.0.0", "::")),
    ],
)
def test_addresses(listen: list[str], addresses: tuple[str, ...]) -> None:
    assert parse(*listen).addresses == addresses


def test_single_directories_win_over_the_base() -> None:
    places = parse("--base-directory", "b", "--output-directory", "/out", "--temp-directory", "t")
    assert places.directories.input == CWD / "b" / "input"
    assert places.directories.output == Path("/out")
    assert places.directories.temp == CWD / "t" / "temp"
    assert places.directories.user == CWD / "b" / "user"


@pytest.mark.parametrize(
    ("argv", "mode"),
    [
        (["--cache-classic"], CacheMode.CLASSIC),
        (["--cache-lru", "7"], CacheMode.LRU),
        (["--cache-none"], CacheMode.NONE),
        (["--cache-lru", "0"], CacheMode.MEMORY),
    ],
)
def test_cache_modes(argv: list[str], mode: CacheMode) -> None:
    assert parse(*argv).cache is mode


def test_other_options_of_comfyui_are_kept_aside() -> None:
    options = parse("--cpu", "--port", "9", "--preview-method", "auto", "--cache-ram", "4")
    assert options.port == 9
    assert options.ignored == ("--cpu", "--preview-method", "auto", "--cache-ram", "4")


def test_faults_with_and_without_arguments() -> None:
    options = parse(
        "--fault", "slow-start", "--fault", "crash-at-class=SaveImage", "--fault=mute=2.5"
    )
    assert options.faults == (
        Fault(FaultKind.SLOW_START, "5"),
        Fault(FaultKind.CRASH_AT_CLASS, "SaveImage"),
        Fault(FaultKind.MUTE, "2.5"),
    )
    faults = Faults(options.faults)
    assert faults.find(FaultKind.MUTE) == Fault(FaultKind.MUTE, "2.5")
    assert faults.find(FaultKind.NEVER_READY) is None


@pytest.mark.parametrize("text", ["earthquake", "slow-start=soon", "crash-at-class", "mute=,"])
def test_faults_that_are_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("--fault", text)
    assert caught.value.code == 2
    assert "argument --fault" in capsys.readouterr().err


def test_every_fault_says_what_it_does() -> None:
    source = Path(__file__).parents[3] / "src" / "comfyserve" / "engine" / "faults.py"
    text = source.read_text("utf-8")
    for kind in FaultKind:
        assert f'{kind.name} = "{kind}"\n    """' in text
