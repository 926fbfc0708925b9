"""How processes share a study: each claims what it does, shows that it is alive, and takes over what the dead left.

A trial's user attribute ``key`` says what it does. Whoever claims a key writes it first and looks for others then, so
of two at the same moment at least one sees the other. It gives way to a lower trial number, and to one that is
``sure``; for a higher number that is not sure yet it waits: that one gives way, or had looked too early and becomes
sure.

A process that is alive changes ``beat`` every few seconds; a running trial in which nothing changes for `PATIENCE`
seconds is lost: it becomes a failed one, and its key is free again. No clock of one machine is compared with another's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from aconite.lab.search.storage import LOST

__all__ = ["BEAT", "PATIENCE", "Result", "SharedStudy"]

BEAT = 10.0
PATIENCE = 60.0
_WAIT = 0.5
_DONE = (TrialState.COMPLETE, TrialState.PRUNED)

Result = tuple[float | None, str | None]
"""A value, or the reason why there is none."""


class SharedStudy:
    """A study with claims. Meant for one thread of one process."""

    def __init__(self, study: optuna.Study) -> None:
        self.study = study
        self._mine: set[int] = set()
        self._last_seen: dict[int, tuple[object, float]] = {}

    def trials(self) -> list[FrozenTrial]:
        """All trials, in the order of their numbers."""
        return self.study.get_trials(deepcopy=False)

    def counted(self) -> list[FrozenTrial]:
        """Those that tried something, with whatever result, or are about to; repeats and lost ones are not."""
        return [trial for trial in self.trials() if self.holds(trial) and "repeats" not in trial.user_attrs]

    @staticmethod
    def holds(trial: FrozenTrial) -> bool:
        """Whether the trial's key is taken by it: it runs, or came to a result, be it that the training blew up."""
        if "key" not in trial.user_attrs:
            return False
        return trial.state in (*_DONE, TrialState.RUNNING) or (
            trial.state == TrialState.FAIL and trial.user_attrs.get("reason") is not None
        )

    def taken(self) -> dict[str, FrozenTrial]:
        """Key → the first trial that holds it."""
        return {trial.user_attrs["key"]: trial for trial in reversed(self.counted())}

    def lost(self) -> FrozenTrial | None:
        """A trial whose process died before it had a result, and that nobody has done since."""
        taken = self.taken()
        for trial in self.trials():
            key = trial.user_attrs.get("key")
            if trial.state == TrialState.FAIL and key is not None and not self.holds(trial) and key not in taken:
                return trial
        return None

    def claim(self, trial: optuna.Trial, key: str) -> FrozenTrial | None:
        """Claim a key for a trial; the trial that has it already, or None: it is ours."""
        self._mine.add(trial.number)
        trial.set_user_attr("key", key)
        while others := [
            other
            for other in self.trials()
            if self.holds(other) and other.user_attrs["key"] == key and other.number != trial.number
        ]:
            for other in others:
                if other.number < trial.number or other.state != TrialState.RUNNING or "sure" in other.user_attrs:
                    return other
            self.bury()
            time.sleep(_WAIT)
        trial.set_user_attr("sure", True)
        return None

    def finish(self, trial: optuna.Trial, value: float | None, reason: str | None = None) -> None:
        """End a trial with a value, or as failed for a reason; without either its key is free again."""
        if reason is not None:
            trial.set_user_attr("reason", reason)
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        self.study.tell(trial, value, state=state, skip_if_finished=True)  # another process may have thought us dead

    def share_out(self, jobs: Mapping[str, Callable[[optuna.Trial], Result]]) -> dict[str, FrozenTrial]:
        """Do each job that no process has done or is at, wait for the others; their trials, by key."""
        while True:
            self.bury()
            taken = self.taken()
            if (key := next((key for key in jobs if key not in taken), None)) is None:
                self.wait()
                if jobs.keys() <= (taken := self.taken()).keys():  # none of the others' was left undone
                    return {key: taken[key] for key in jobs}
                continue
            trial = self.study.ask()
            with self.alive(trial):
                if self.claim(trial, key) is None:
                    self.finish(trial, *jobs[key](trial))

    def bury(self) -> list[FrozenTrial]:
        """Mark the running trials of dead processes as failed; returns the running ones that may be alive."""
        now, alive = time.monotonic(), []
        for trial in self.trials():
            if trial.state != TrialState.RUNNING or trial.number in self._mine:
                continue
            sign = (trial.user_attrs.get("beat"), len(trial.intermediate_values), trial.user_attrs.get("key"))
            known, since = self._last_seen.get(trial.number, (None, now))
            if sign != known:
                self._last_seen[trial.number] = sign, now
            elif now - since > PATIENCE:
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
                continue
            alive.append(trial)
        return alive

    def wait(self) -> None:
        """Until no trial of another process runs."""
        while self.bury():
            time.sleep(_WAIT)

    @contextmanager
    def alive(self, trial: optuna.Trial) -> Iterator[None]:
        """Shows signs of life while the block runs; however it ends, no trial of ours stays running.

        Where another process took this one for dead (it may have been stopped for a while), the block ends without a
        word at its next note to the trial: the other does the work again, or has done so.
        """
        over = threading.Event()

        def beat() -> None:
            number = 0
            with suppress(UpdateFinishedTrialError):
                while not over.wait(BEAT):
                    number += 1
                    with suppress(*LOST):  # it may be back at the next beat; if not, the block's own calls say so
                        trial.set_user_attr("beat", number)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            with suppress(UpdateFinishedTrialError):
                yield
        finally:
            over.set()
            thread.join()
            self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
