"""Settings: option over environment over file over default; what cannot be read is named."""

from dataclasses import fields
from pathlib import Path

import pytest

from comfyserve.domain.errors import InvalidInput
from comfyserve.settings import ENV_PREFIX, Settings, load_settings


@pytest.fixture
def nowhere(tmp_path: Path) -> dict[str, str]:
    """An environment whose configuration file is empty."""
    path = tmp_path / "empty.toml"
    path.write_text("")
    return {"COMFYSERVE_CONFIG": str(path)}


def with_file(tmp_path: Path, text: str, **env: str) -> dict[str, str]:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return {"COMFYSERVE_CONFIG": str(path), **env}


def test_without_anything_there_are_the_defaults(nowhere: dict[str, str]) -> None:
    assert load_settings(nowhere) == Settings()


def test_each_source_beats_the_one_below_it(tmp_path: Path) -> None:
    env = with_file(tmp_path, 'port = 1\nhost = "a"\nlease_s = 7', COMFYSERVE_PORT="2")
    assert load_settings(env, port=3).port == 3
    settings = load_settings(env, port=None)
    assert (settings.port, settings.host, settings.lease_s) == (2, "a", 7.0)
    assert settings.stop_timeout_s == Settings().stop_timeout_s


@pytest.mark.parametrize("option", fields(Settings), ids=lambda option: option.name)
def test_every_setting_can_be_set_by_its_variable(option: object, nowhere: dict[str, str]) -> None:
    name: str = getattr(option, "name")  # noqa: B009 - a dataclass field
    default = getattr(Settings(), name)
    choices: tuple[str, ...] = getattr(option, "metadata")["choices"]  # noqa: B009 - as above
    text, expected = {
        bool: ("yes", True),
        int: ("7", 7),
        float: ("7.5", 7.5),
        str: (choices[-1], choices[-1]) if choices else ("seven", "seven"),
        dict: ("H100=2.5, cpu=0.05", {"H100": 2.5, "cpu": 0.05}),
    }[type(default)]
    settings = load_settings({**nowhere, ENV_PREFIX + name.upper(): text})
    assert getattr(settings, name) == expected
    assert type(getattr(settings, name)) is type(default)


def test_every_setting_says_what_it_is() -> None:
    assert all(option.metadata["help"] for option in fields(Settings))


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", True), ("TRUE", True), ("on", True), ("0", False), ("No", False), ("", False)],
)
def test_yes_and_no_have_many_spellings(nowhere: dict[str, str], text: str, value: bool) -> None:
    settings = load_settings({**nowhere, "COMFYSERVE_DETACH_REPLICAS": text})
    assert settings.detach_replicas is value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "80.5"),
        ("LEASE_S", "soon"),
        ("PORT", "-1"),
        ("LEASE_S", "0"),
        ("LEASE_S", "nan"),
        ("STOP_TIMEOUT_S", "inf"),
        ("STOP_TIMEOUT_S", "-1"),
        ("START_FAILURES", "0"),
        ("CONFINE", "maybe"),
        ("LOG_FORMAT", "xml"),
        ("DETACH_REPLICAS", "maybe"),
        ("PRICES", "H100"),
        ("PRICES", "H100=cheap"),
    ],
)
def test_a_value_that_cannot_be_read_is_named(
    nowhere: dict[str, str], name: str, value: str
) -> None:
    with pytest.raises(InvalidInput, match=f"setting '{name.lower()}' cannot be '{value}'"):
        load_settings({**nowhere, ENV_PREFIX + name: value})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("prot = 1", "unknown setting 'prot'"),
        ("port = true", "'port'"),
        ("port = [1]", "'port'"),
        ("prices = 3", "'prices'"),
        ("prices = {H100 = [1]}", "'prices'"),
        ("prices = {H100 = 'x'}", "'prices'"),
        ("port = = 1", "is not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        load_settings(with_file(tmp_path, text))


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"home = '\xff\xfe'")
    with pytest.raises(InvalidInput, match="is not valid TOML"):
        load_settings({"COMFYSERVE_CONFIG": str(path)})


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="COMFYSERVE_CONFIG names"):
        load_settings({"COMFYSERVE_CONFIG": str(tmp_path / "missing.toml")})


def test_the_users_own_file_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert load_settings({}) == Settings()
    (tmp_path / "comfyserve").mkdir()
    (tmp_path / "comfyserve" / "config.toml").write_text("port = 8123")
    assert load_settings({}).port == 8123


def test_the_process_environment_is_read_unless_another_is_given(
    monkeypatch: pytest.MonkeyPatch, nowhere: dict[str, str]
) -> None:
    monkeypatch.setenv("COMFYSERVE_CONFIG", nowhere["COMFYSERVE_CONFIG"])
    monkeypatch.setenv("COMFYSERVE_PORT", "8124")
    assert load_settings().port == 8124
    assert load_settings(nowhere).port == Settings().port


def test_prices_of_a_file_are_a_table(tmp_path: Path) -> None:
    settings = load_settings(with_file(tmp_path, "[prices]\nH100 = 2\ndefault = 0.1"))
    assert settings.prices == {"H100": 2.0, "default": 0.1}


def test_an_unknown_option_is_refused(nowhere: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="unknown setting 'colour'"):
        load_settings(nowhere, colour="blue")


def test_the_home_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert Settings(home="here").home_path == tmp_path / "here"
    assert Settings(home="~/there").home_path == tmp_path / "me" / "there"
    assert Settings().home_path.is_absolute()


def test_where_a_client_finds_the_server() -> None:
    assert Settings(host="127.0.0.1", port=8001).server_url == "http://127.0.0.1:8001"
    assert Settings(url="https://example.test/").server_url == "https://example.test"
