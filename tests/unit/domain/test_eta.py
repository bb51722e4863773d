"""When a job will probably be done."""

from comfyserve.domain.eta import Pace, eta_of_queued, eta_of_running

KNOWN = Pace(job_s=10.0, wake_s=4.0)


def test_nothing_is_said_while_nothing_was_measured() -> None:
    assert eta_of_queued(Pace(), ahead=3, lanes=1, is_awake=True) is None
    assert eta_of_running(Pace(), elapsed_s=1.0, value=0.0) is None


def test_a_queued_job_waits_for_its_turn_and_for_the_wake() -> None:
    assert eta_of_queued(KNOWN, ahead=0, lanes=1, is_awake=True) == 10.0
    assert eta_of_queued(KNOWN, ahead=0, lanes=0, is_awake=False) == 14.0
    assert eta_of_queued(KNOWN, ahead=2, lanes=1, is_awake=True) == 30.0
    assert eta_of_queued(KNOWN, ahead=2, lanes=2, is_awake=True) == 20.0
    assert eta_of_queued(Pace(job_s=10.0), ahead=0, lanes=0, is_awake=False) == 10.0


def test_a_running_job_is_judged_by_history_first_and_by_its_progress_later() -> None:
    assert eta_of_running(KNOWN, elapsed_s=4.0, value=None) == 6.0
    assert eta_of_running(KNOWN, elapsed_s=40.0, value=0.0) == 0.0
    assert eta_of_running(Pace(), elapsed_s=4.0, value=0.5) == 4.0
    assert eta_of_running(KNOWN, elapsed_s=4.0, value=0.5) == 5.0
    assert eta_of_running(KNOWN, elapsed_s=4.0, value=1.0) == 0.0
