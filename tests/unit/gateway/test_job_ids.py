"""Ids of jobs."""

import uuid

from comfyserve.gateway.job_ids import new_job_id


def test_ids_of_one_time_differ() -> None:
    made = {new_job_id(1_764_000_000.0) for _ in range(5_000)}
    assert len(made) == 5_000
    assert len({uuid.UUID(each).int >> 80 for each in made}) == 1
