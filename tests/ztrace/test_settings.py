"""Settings: precedence of arguments, environment and defaults; an invalid one disables tracing only."""

import inspect
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

import ztrace
from tests.ztrace.waiting import wait_for
from ztrace import agent, diagnostics, spans
from ztrace.addresses import DEFAULT_ENDPOINT
from ztrace.enrolment import Enrolment
from ztrace.errors import SettingsError
from ztrace.exceptions import frames
from ztrace.libraries import LIBRARIES
from ztrace.middleware import carrying
from ztrace.publishing import retrying, worker
from ztrace.scrubbing.rules import DEFAULT_RULES
from ztrace.settings import LIMITS, MAX_ENDPOINTS, read_settings

#: Variables that can be turned off; the first four are switches.
SWITCHES = (
    *("ZTRACE_DISABLED", "ZTRACE_LOCALS", "ZTRACE_DEBUG", "ZTRACE_SCRUB"),
    *("ZTRACE_FRAMES", "ZTRACE_SPOOL", "ZTRACE_PROFILE"),
)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return a patch after removing ztrace's variables from the environment."""
    for name in ("ZTRACE_SERVICE", "ZTRACE_ENDPOINT", "ZTRACE_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_arguments_win_over_the_environment() -> None:
    """Arguments take precedence over the environment."""
    environ = {
        "ZTRACE_SERVICE": "other",
        "ZTRACE_ENDPOINT": "tcp://127.0.0.1:9",
        "ZTRACE_SERVICE_VERSION": "1",
    }
    settings = read_settings("billing", "ipc:///run/ztrace", version="2", environ=environ)
    assert (settings.service, settings.endpoints) == ("billing", ("ipc:///run/ztrace",))
    assert settings.version == "2"


def test_the_environment_wins_over_defaults() -> None:
    """The environment takes precedence over defaults."""
    environ = {
        "ZTRACE_SERVICE": "billing",
        "ZTRACE_ENDPOINT": "tcp://10.0.0.1:9",
        "ZTRACE_SERVICE_VERSION": "1.2",
    }
    settings = read_settings(environ=environ)
    assert (settings.service, settings.endpoints) == ("billing", ("tcp://10.0.0.1:9",))
    assert settings.version == "1.2"


def test_defaults() -> None:
    """Unset and empty variables give the default endpoint, this machine's name, and tracing enabled."""
    for environ in ({}, {"ZTRACE_SERVICE": "", "ZTRACE_ENDPOINT": "", "ZTRACE_DISABLED": ""}):
        settings = read_settings("billing", environ=environ)
        assert settings.endpoints == (DEFAULT_ENDPOINT,)
        assert settings.host == socket.gethostname()
        assert not settings.disabled


@pytest.mark.parametrize(
    ("arguments", "service"),
    [
        (["/srv/shop/billing.py", "--port", "1"], "billing"),
        (["billing"], "billing"),
        (["/usr/lib/python3/shop/__main__.py"], "shop"),
        (["-c"], "python"),
        (["-m"], "python"),
        ([""], "python"),
        ([], "python"),
    ],
)
def test_a_service_is_named_after_its_script(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], service: str
) -> None:
    """A service without a name is named after its script, its package, or else Python."""
    monkeypatch.setattr(sys, "argv", arguments)
    assert read_settings(environ={}).service == service


@pytest.mark.parametrize("value", ["off", "OFF", "0", "false", "No", " off "])
def test_every_setting_is_turned_off_by_the_same_words(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Each word for off turns off every switch, profiles, the spool and additional frames."""
    settings = read_settings(environ=dict.fromkeys(SWITCHES, value))
    assert (settings.disabled, settings.record_locals, settings.debug) == (False, False, False)
    assert (settings.scrub, settings.spool, settings.all_frames, settings.profile) == (
        None,
        None,
        False,
        "off",
    )
    monkeypatch.setenv("ZTRACE_CARRY", value)
    assert not carrying.is_enabled()


@pytest.mark.parametrize("value", ["1", "true", "yes", "On", "anything"])
def test_any_other_word_turns_a_switch_on(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A value that is not one for off turns a switch on."""
    settings = read_settings(
        environ=dict.fromkeys(("ZTRACE_DISABLED", "ZTRACE_LOCALS", "ZTRACE_DEBUG"), value)
    )
    assert (settings.disabled, settings.record_locals, settings.debug) == (True, True, True)
    assert settings.scrub is DEFAULT_RULES
    monkeypatch.setenv("ZTRACE_CARRY", value)
    assert carrying.is_enabled()


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty variables leave every switch at its default."""
    assert read_settings(environ=dict.fromkeys(SWITCHES, "")) == read_settings(environ={})
    monkeypatch.setenv("ZTRACE_CARRY", "")
    assert carrying.is_enabled()


@pytest.mark.parametrize("service", ["bil\udcffling", b"billing", 5, "x" * 100_000])
def test_any_service_name_can_travel(service: Any) -> None:
    """A service name that is not valid UTF-8, no text or too long is converted to one that fits the wire."""
    name = read_settings(service, environ={}).service
    assert 0 < len(name.encode("utf-8")) <= 256


@pytest.mark.parametrize(
    "endpoint",
    [
        "nonsense",
        "http://127.0.0.1:4710",
        "127.0.0.1:4710",
        "udp://x",
        5,
        b"tcp://",
        "tcp://",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:x",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:65536",
        "ipc://",
        f"ipc:///{'x' * 107}",
    ],
)
def test_an_endpoint_that_is_none_is_refused(endpoint: Any) -> None:
    """An invalid endpoint raises an error that shows a valid one."""
    with pytest.raises(SettingsError, match="give ZTRACE_ENDPOINT as in tcp://"):
        read_settings("billing", endpoint, environ={})


@pytest.mark.parametrize(
    "given",
    [
        "tcp://a:1,ipc:///run/b",
        " tcp://a:1 , ipc:///run/b,",
        ["tcp://a:1", "ipc:///run/b"],
        ("tcp://a:1", "ipc:///run/b"),
    ],
)
def test_several_collectors(given: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Several endpoints come as text with commas between, from the environment too, or as a list."""
    expected = ("tcp://a:1", "ipc:///run/b")
    assert read_settings("billing", given, environ={}).endpoints == expected
    if isinstance(given, str):
        assert read_settings("billing", environ={"ZTRACE_ENDPOINT": given}).endpoints == expected
    assert not caplog.records


def test_a_path_with_a_comma_is_given_in_a_list() -> None:
    """A list is taken as it is, so a path in it may contain a comma."""
    assert read_settings("billing", ["ipc:///run/a,b"], environ={}).endpoints == ("ipc:///run/a,b",)


def test_a_repeated_collector_counts_once(caplog: pytest.LogCaptureFixture) -> None:
    """Repeated endpoints are left out, with one warning."""
    settings = read_settings("billing", "tcp://a:1,tcp://b:1,tcp://a:1,tcp://b:1", environ={})
    assert settings.endpoints == ("tcp://a:1", "tcp://b:1")
    assert [record.getMessage() for record in caplog.records] == [
        "ztrace: ZTRACE_ENDPOINT has 'tcp://a:1' more than once; each collector counts once"
    ]


@pytest.mark.parametrize(
    "given", ["tcp://a:1,nonsense", "tcp://a:1,b:2", ["tcp://a:1", 5], ",", ["tcp://a:1", ""]]
)
def test_a_list_with_an_invalid_endpoint_is_refused(given: Any) -> None:
    """One invalid endpoint among others raises an error."""
    with pytest.raises(SettingsError, match=r"cannot publish to .*give ZTRACE_ENDPOINT as in tcp://"):
        read_settings("billing", given, environ={})


def test_a_list_is_bounded() -> None:
    """A list has a largest number of collectors."""
    listed = [f"tcp://a:{port}" for port in range(1, MAX_ENDPOINTS + 2)]
    assert read_settings("billing", listed[1:], environ={}).endpoints == tuple(listed[1:])
    with pytest.raises(SettingsError, match=f"has {MAX_ENDPOINTS + 1} collectors; give at most"):
        read_settings("billing", listed, environ={})


@pytest.mark.parametrize("variable", LIMITS)
def test_a_number_comes_from_argument_variable_or_default(variable: str) -> None:
    """A number comes from its argument, variable or default, and milliseconds are converted to seconds."""
    limit = LIMITS[variable]
    argument = variable.removeprefix("ZTRACE_").lower()
    field = argument.replace("linger_ms", "linger_s")
    unit = 1000 if field != argument else 1

    def read(environ: dict[str, str], **arguments: Any) -> Any:
        return getattr(read_settings("billing", environ=environ, **arguments), field)

    assert read({}) == read({variable: ""}) == limit.default / unit
    assert read({variable: str(limit.most)}) == limit.most / unit
    assert read({variable: str(limit.most)}, **{argument: limit.least}) == limit.least / unit


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "9" * 30])
@pytest.mark.parametrize("variable", LIMITS)
def test_a_number_out_of_its_range_is_refused(variable: str, value: str) -> None:
    """A number out of range raises an error that names the variable and the range."""
    with pytest.raises(SettingsError, match=f"{variable} is '{value}'; give a whole number from "):
        read_settings("billing", environ={variable: value})


def test_a_key_brings_its_service() -> None:
    """A key determines the service, and another service's name with it is rejected."""
    text = Enrolment("billing", b"s" * 32, b"p" * 32, b"x" * 32).format()
    assert read_settings(environ={"ZTRACE_KEY": text}).service == "billing"
    assert read_settings("billing", key=text, environ={}).key == Enrolment.parse(text)
    with pytest.raises(SettingsError, match="the key is for the service billing, this one is shop"):
        read_settings("shop", key=text, environ={})


def test_locals_and_frames_are_asked_for() -> None:
    """Local variables and library frames are recorded only when enabled."""
    plain = read_settings("billing", environ={"ZTRACE_LOCALS": "0", "ZTRACE_FRAMES": ""})
    assert (plain.record_locals, plain.all_frames) == (False, False)
    environ = {"ZTRACE_LOCALS": "1", "ZTRACE_FRAMES": "all"}
    asked = read_settings("billing", environ=environ)
    assert (asked.record_locals, asked.all_frames) == (True, True)
    assert not read_settings("billing", record_locals=False, environ=environ).record_locals
    given = read_settings("billing", record_locals=True, frames="all", environ={})
    assert (given.record_locals, given.all_frames) == (True, True)
    with pytest.raises(SettingsError, match="ZTRACE_FRAMES is 'some'"):
        read_settings("billing", environ={"ZTRACE_FRAMES": "some"})


def test_configure_switches_locals_and_frames(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`configure` applies the settings of locals and frames, and a second call resets them."""
    endpoint = f"ipc://{tmp_path}/nobody"
    ztrace.configure("billing", endpoint, record_locals=True, frames="all")
    try:
        assert (frames.show_all, frames.show_locals) == (True, True)
        ztrace.configure("billing", endpoint)
        assert (frames.show_all, frames.show_locals) == (False, False)
    finally:
        ztrace.shutdown(0)


def test_scrubbing_is_on_and_can_be_extended_or_turned_off() -> None:
    """Scrubbing is on by default, can be disabled, and combines the rules of arguments and variables."""
    assert read_settings("billing", environ={}).scrub is DEFAULT_RULES
    assert read_settings("billing", environ={"ZTRACE_SCRUB": ""}).scrub is DEFAULT_RULES
    for off in ("0", "false", "No"):
        assert read_settings("billing", environ={"ZTRACE_SCRUB": off}).scrub is None
    environ = {"ZTRACE_SCRUB_KEYS": "iban, bic,", "ZTRACE_SCRUB_VALUES": r"DE\d{4}"}
    rules = read_settings("billing", scrub_keys=["pin"], scrub_values=["XY+"], environ=environ).scrub
    assert rules is not None
    assert rules.find_names(["iban", "bic", "pin", "pan"]) == {"iban", "bic", "pin"}
    assert rules.scrub("DE1234 and XYY") == "[scrubbed] and [scrubbed]"
    with pytest.raises(SettingsError, match="give a regular expression"):
        read_settings("billing", environ={"ZTRACE_SCRUB_VALUES": "("})


def test_a_spool_is_a_folder() -> None:
    """The spool is off by default, and an argument takes precedence over the variable."""
    assert read_settings("billing", environ={}).spool is None
    assert read_settings("billing", environ={"ZTRACE_SPOOL": "/var/spool/x"}).spool == "/var/spool/x"
    assert read_settings("billing", spool=Path("/y"), environ={"ZTRACE_SPOOL": "/x"}).spool == "/y"


@pytest.mark.parametrize("name", ["spool", Path("spool"), "./a/../spool"])
def test_a_relative_spool_is_resolved_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str | Path
) -> None:
    """A relative folder is the one below the current folder of `configure`, wherever the program goes."""
    monkeypatch.chdir(tmp_path)
    assert read_settings("billing", spool=name, environ={}).spool == str(tmp_path / "spool")
    assert read_settings("billing", environ={"ZTRACE_SPOOL": str(name)}).spool == str(tmp_path / "spool")


def test_a_bad_endpoint_is_logged_and_the_program_goes_on(
    bare: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, counts: dict[str, int]
) -> None:
    """An invalid endpoint is logged once, and the program continues untraced."""
    ztrace.configure("billing", "nonsense")
    assert not agent.is_configured()
    with ztrace.span("a"):
        pass
    (logged,) = caplog.records
    assert "not tracing: cannot publish to 'nonsense'" in logged.getMessage()
    assert counts == {}


def test_a_bad_endpoint_leaves_a_good_publisher_alone(
    bare: pytest.MonkeyPatch, stopped: None, caplog: pytest.LogCaptureFixture
) -> None:
    """An invalid second configuration leaves the running publisher in place."""
    ztrace.configure("billing", "tcp://127.0.0.1:9")
    before = spans.publisher
    ztrace.configure("billing", "nonsense")
    assert spans.publisher is before is not None


@pytest.mark.parametrize("endpoint", ["tcp://*:4710", "tcp://a host:4710"])
def test_an_endpoint_that_zeromq_refuses_is_logged_once(
    bare: pytest.MonkeyPatch,
    stopped: None,
    counts: dict[str, int],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    endpoint: str,
) -> None:
    """An endpoint rejected by ZeroMQ is logged once, and the spans are reported at the end."""
    bare.setattr(retrying, "RETRY_S", 0.01)
    bare.setattr(worker, "UNREACHED_S", 0.1)
    ztrace.configure("billing", endpoint)
    for _ in range(3):
        with ztrace.span("a"):
            pass
    wait_for(lambda: counts.get("publisher_start", 0) > 1)
    assert counts.keys() == {"publisher_start"}
    assert len(caplog.records) == 1
    ztrace.shutdown()
    assert capsys.readouterr().err.endswith(f"ztrace: 3 spans not delivered to {endpoint}\n")


def test_disabled_nothing_is_recorded(bare: pytest.MonkeyPatch, stopped: None) -> None:
    """ZTRACE_DISABLED overrides `configure`, and stops an earlier configuration."""
    ztrace.configure("billing", "tcp://127.0.0.1:9")
    assert agent.is_configured()
    bare.setenv("ZTRACE_DISABLED", "1")
    ztrace.configure("billing", "tcp://127.0.0.1:9")
    assert not agent.is_configured()


def test_a_service_that_cannot_be_told_does_no_harm(bare: pytest.MonkeyPatch, counts: dict[str, int]) -> None:
    """A service name whose conversion to text raises is counted, and `configure` does not raise."""

    class Speechless:
        def __str__(self) -> str:
            raise RuntimeError

    service: Any = Speechless()
    ztrace.configure(service)
    assert not agent.is_configured()
    assert counts == {"configure": 1}


def test_no_instrumentation_is_asked_for_what_does_not_exist(
    caplog: pytest.LogCaptureFixture, counts: dict[str, int]
) -> None:
    """Instrumenting an unsupported library logs the supported ones, the most similar first."""
    ztrace.instrument("zerorcp")
    (logged,) = caplog.records
    assert "cannot trace 'zerorcp': supported are zerorpc, " in logged.getMessage()
    assert set(LIBRARIES) == set(logged.getMessage().partition("supported are ")[2].split(", "))
    assert counts == {}


@pytest.mark.parametrize(
    "value",
    [5, 1.5, b"x", object(), [5], {"a": 1}, "\0", "x" * 5000, float("nan"), 10**30],
    ids=["int", "float", "bytes", "object", "list", "dict", "zero", "long", "nan", "large"],
)
@pytest.mark.parametrize("name", list(inspect.signature(ztrace.configure).parameters))
def test_a_wrong_argument_is_no_failure_of_ztrace(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, value: Any
) -> None:
    """An argument of another type is told in one line, without its whole value, or is used."""
    monkeypatch.setattr(agent, "open_publisher", lambda settings: None)
    monkeypatch.setattr(spans, "publisher", None)
    before = dict(diagnostics.counts)
    ztrace.configure(**{"service": "shop", name: value})
    assert diagnostics.counts == before
    for record in caplog.records:
        assert not record.exc_info
        assert len(record.getMessage()) < 400


def test_a_key_of_another_type_is_not_repeated() -> None:
    """The value of a key is a secret whatever its type."""
    with pytest.raises(SettingsError) as caught:
        read_settings(key=b"ztrace1.secret")  # type: ignore[arg-type]
    assert "secret" not in str(caught.value).replace("secrets", "")


def test_one_secret_name_is_a_list_of_one() -> None:
    """A text in place of a list is one name, and None is none."""
    one = read_settings(scrub_keys="badge", scrub_values=None)  # type: ignore[arg-type]
    assert one.scrub is not None
    assert one.scrub.scrub_attributes({"badge": "4711", "b": "x"}) == {"badge": "[scrubbed]", "b": "x"}
