"""What runs in a replica is on the machine too, but is not its owner."""

from pathlib import Path

import pytest
from tests.e2e.ports import two_free_ports
from tests.e2e.server_process import serving
from tests.gateway.plain_door import command

pytestmark = pytest.mark.e2e

INTRUDER = str(Path(__file__).parents[1] / "tools" / "intruder.py")


def test_a_replica_changes_nothing_without_a_token(tmp_path: Path) -> None:
    port, _ = two_free_ports()
    with serving(tmp_path / "home", port) as server:
        server.deploy("intruder", engine=command(INTRUDER, "{port}"))
        assert server.get("/d/intruder/stop").body == b"401"
        assert server.get("/d/intruder/stop-detached").body == b"401"
        assert server.get("/api/v1/deployments/intruder").json["state"] == "active"
        # Whoever owns the machine goes on without a token, awake replicas or not.
        assert server.post("/api/v1/deployments/intruder/stop").status == 200
