"""Claims, signs of life and burials, on a study in memory that two workers see."""

from __future__ import annotations

import threading
import time

import optuna
import pytest
from optuna.trial import TrialState

from aconite.lab.search import shared as shared_room
from aconite.lab.search.shared import SharedStudy

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_room, "PATIENCE", 0.2)
    monkeypatch.setattr(shared_room, "BEAT", 0.02)
    monkeypatch.setattr(shared_room, "_WAIT", 0.01)


@pytest.fixture
def two() -> tuple[SharedStudy, SharedStudy]:
    study = optuna.create_study()
    return SharedStudy(study), SharedStudy(study)


def test_the_first_claim_holds(two: tuple[SharedStudy, SharedStudy]) -> None:
    ours, theirs = two
    first, second = ours.study.ask(), theirs.study.ask()
    assert ours.claim(first, "a") is None
    other = theirs.claim(second, "a")
    assert other is not None
    assert other.number == first.number
    assert theirs.claim(second, "b") is None
    assert set(ours.taken()) == {"a", "b"}


def test_a_sure_claim_holds_against_a_lower_number(two: tuple[SharedStudy, SharedStudy]) -> None:
    ours, theirs = two
    low, high = ours.study.ask(), theirs.study.ask()
    assert theirs.claim(high, "a") is None
    other = ours.claim(low, "a")
    assert other is not None
    assert other.number == high.number


@pytest.mark.parametrize("gives_way", [True, False])
def test_the_lower_number_waits_for_one_that_may_have_looked_too_early(
    two: tuple[SharedStudy, SharedStudy], gives_way: bool
) -> None:
    ours, theirs = two
    low, high = ours.study.ask(), theirs.study.ask()
    high.set_user_attr("key", "a")  # it has claimed, and not looked yet
    answers: list[optuna.trial.FrozenTrial | None] = []
    thread = threading.Thread(target=lambda: answers.append(ours.claim(low, "a")))
    thread.start()
    time.sleep(0.08)
    assert answers == []
    if gives_way:
        theirs.study.tell(high, state=TrialState.FAIL)
    else:
        high.set_user_attr("sure", True)
    thread.join(5)
    [answer] = answers
    assert (answer is None) == gives_way


def test_results_hold_their_key_and_failures_without_a_reason_do_not(two: tuple[SharedStudy, SharedStudy]) -> None:
    ours, theirs = two
    for key, value, reason in (("done", 1.0, None), ("blown up", None, "the loss is not finite"), ("left", None, None)):
        trial = ours.study.ask()
        assert ours.claim(trial, key) is None
        ours.finish(trial, value, reason)
    assert set(theirs.taken()) == {"done", "blown up"}
    lost = theirs.lost()
    assert lost is not None
    assert lost.user_attrs["key"] == "left"
    again = theirs.study.ask()
    assert theirs.claim(again, "left") is None
    assert ours.lost() is None


def test_the_dead_are_buried_and_the_living_are_not(two: tuple[SharedStudy, SharedStudy]) -> None:
    ours, theirs = two
    dead, living = theirs.study.ask(), theirs.study.ask()
    assert theirs.claim(dead, "a") is None
    assert theirs.claim(living, "b") is None
    with theirs.alive(living):
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            running = [trial.number for trial in ours.bury()]
            assert living.number in running
            time.sleep(0.01)
        assert running == [living.number]
        theirs.finish(living, 1.0)
    assert [trial.state for trial in ours.trials()] == [TrialState.FAIL, TrialState.COMPLETE]
    assert set(ours.taken()) == {"b"}


def test_a_worker_that_was_buried_gives_way_without_a_word(two: tuple[SharedStudy, SharedStudy]) -> None:
    ours, theirs = two
    trial = theirs.study.ask()
    reached = False
    with theirs.alive(trial):
        assert theirs.claim(trial, "a") is None
        ours.study.tell(trial.number, state=TrialState.FAIL)
        trial.set_user_attr("seconds", 1.0)
        reached = True
    assert not reached
    assert ours.lost() is not None


def test_no_trial_stays_running_after_an_error(two: tuple[SharedStudy, SharedStudy]) -> None:
    ours, theirs = two
    trial = theirs.study.ask()

    def stopped() -> None:
        with theirs.alive(trial):
            theirs.claim(trial, "a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert ours.bury() == []
    assert ours.taken() == {}


def test_jobs_are_shared_out(two: tuple[SharedStudy, SharedStudy]) -> None:
    """Each job is done once, by whoever comes first; both have all results, a failed one's reason too."""
    done: list[str] = []

    def job(key: str) -> tuple[float | None, str | None]:
        time.sleep(0.02)
        done.append(key)
        return (None, "blown up") if key == "c" else (float(ord(key)), None)

    answers: list[dict[str, optuna.trial.FrozenTrial]] = []

    def work(shared: SharedStudy) -> None:
        answers.append(shared.share_out({key: lambda trial, key=key: job(key) for key in "abcdef"}))  # type: ignore[misc]

    threads = [threading.Thread(target=work, args=(shared,)) for shared in two]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(done) == list("abcdef")
    for answer in answers:
        values = {key: trial.value if trial.state == TrialState.COMPLETE else None for key, trial in answer.items()}
        assert values == {"a": 97, "b": 98, "c": None, "d": 100, "e": 101, "f": 102}
        assert answer["c"].user_attrs["reason"] == "blown up"
    assert len(answers) == 2
