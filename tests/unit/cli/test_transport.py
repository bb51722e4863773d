"""What the network and the server can do to a request, in the words of the command line."""

import json
from pathlib import Path

import pytest

from comfyserve.cli.client import Client
from comfyserve.cli.errors import ConnectionLost, ServerFailed, TimedOut, Unreachable
from comfyserve.domain.errors import InvalidInput, NotFound
from comfyserve.sdk.transport import Request, Transport
from comfyserve.testing import control_answers as answers
from comfyserve.testing.command import Cli
from comfyserve.testing.control_server import ControlServer, Scripted, refused


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://host", "http://"])
def test_an_address_that_is_none_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(InvalidInput, match="COMFYSERVE_URL"):
        Transport(url)


def test_nobody_listening_says_how_to_start_a_server(free_port: int) -> None:
    url = f"http://127.0.0.1:{free_port}"
    with pytest.raises(Unreachable, match=r"no server at http.*`comfyserve serve`.*COMFYSERVE_URL"):
        Client(Transport(url)).ready()


def test_a_host_that_does_not_exist_is_named() -> None:
    with pytest.raises(Unreachable, match=r"there is no host 'nowhere\.invalid'"):
        Client(Transport("http://nowhere.invalid:1")).ready()


def test_a_server_that_does_not_answer_times_out(control: ControlServer) -> None:
    control.on("GET", "/slow", Scripted(pieces=(b"x",), hangs=True))
    with pytest.raises(TimedOut, match=r"did not answer in time \(GET /slow\)"):
        Transport(control.url).send(Request("GET", "/slow", timeout_s=0.05))


def test_a_connection_that_breaks_is_told_from_one_that_never_was(control: ControlServer) -> None:
    control.on("GET", "/gone", Scripted(status=0))
    with pytest.raises(ConnectionLost, match="failed"):
        Transport(control.url).send(Request("GET", "/gone"))


def test_an_answer_cut_short_is_a_lost_connection(control: ControlServer) -> None:
    control.on("GET", "/half", Scripted(pieces=(b"half",), breaks=True))
    with pytest.raises(ConnectionLost):
        Transport(control.url).send(Request("GET", "/half"))


def test_a_path_in_front_of_the_server_and_the_token_are_sent(control: ControlServer) -> None:
    control.on("GET", "/prefix/api/v1/health/ready", answers.ready())
    client = Client(Transport(f"{control.url}/prefix/", token="cs_secret"))
    assert client.ready().value.jobs.queued == 1
    assert control.seen[0].headers["Authorization"] == "Bearer cs_secret"


def test_something_else_on_the_port_is_not_taken_for_a_server(control: ControlServer) -> None:
    control.on("GET", "/api/v1/deployments", Scripted(body=b"<html>hello</html>"))
    with pytest.raises(ServerFailed, match="not a comfyserve that this command knows"):
        Client(Transport(control.url)).deployments()


def test_an_error_that_is_not_json_is_shown_by_its_status(control: ControlServer) -> None:
    control.on("GET", "/api/v1/deployments", Scripted(502, b"<html>bad gateway</html>"))
    with pytest.raises(ServerFailed, match="the server answered 502: Bad Gateway"):
        Client(Transport(control.url)).deployments()


def test_a_missing_thing_keeps_the_servers_words_and_code(control: ControlServer) -> None:
    missing = refused(404, "deployment_not_found", "there is no deployment 'x'; there is: demo")
    control.on("GET", "/api/v1/deployments/x", missing)
    with pytest.raises(NotFound, match="there is: demo") as caught:
        Client(Transport(control.url)).deployment("x")
    assert caught.value.code == "deployment_not_found"


def test_names_cannot_leave_their_place_in_the_path(control: ControlServer) -> None:
    with pytest.raises(NotFound):
        Client(Transport(control.url)).deployment("../jobs?x=1")
    assert control.seen[0].path == "/api/v1/deployments/..%2Fjobs%3Fx%3D1"


def test_a_file_is_uploaded_as_a_browser_would(control: ControlServer, tmp_path: Path) -> None:
    control.on(
        "POST", "/d/demo/upload/image", {"name": "a (1).png", "subfolder": "", "type": "input"}
    )
    file = tmp_path / 'we"ird.png'
    file.write_bytes(b"\x89PNG\r\n\x00--")
    uploaded = Client(Transport(control.url)).upload("demo", file)
    assert uploaded.reference == "a (1).png"
    (request,) = control.seen
    boundary = request.headers["Content-Type"].removeprefix("multipart/form-data; boundary=")
    expected = (
        (
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="we%22ird.png"\r\n'
            "Content-Type: image/png\r\n\r\n"
        ).encode()
        + b"\x89PNG\r\n\x00--"
        + f"\r\n--{boundary}--\r\n".encode()
    )
    assert request.body == expected


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (refused(400, "invalid_name", "'X' cannot be a name"), 4, "error: 'X' cannot be a name"),
        (refused(401, "unauthorized", "a token is needed"), 4, "--token or COMFYSERVE_TOKEN"),
        (refused(403, "missing_scope", "this token lacks the scope"), 4, "lacks the scope"),
        (refused(404, "not_found", "there is none"), 3, "error: there is none"),
        (refused(409, "deploy_in_progress", "busy"), 4, "error: busy"),
        (refused(410, "gone", "it was removed"), 3, "error: it was removed"),
        (refused(429, "queue_full", "too many"), 4, "error: too many"),
        (refused(500, "internal_error", "a defect"), 1, "error: a defect"),
        (refused(503, "start_failed", "no", {"log_tail": ["last words"]}), 1, "  last words"),
        (Scripted(599, json.dumps({"error": "odd"}).encode()), 1, "the server answered 599: odd"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    control: ControlServer, cli: Cli, answer: Scripted, code: int, said: str
) -> None:
    control.on("GET", "/api/v1/deployments", answer)
    ran = cli("status")
    assert ran.code == code
    assert ran.out == ""
    assert said in ran.err
    assert "Traceback" not in ran.err
