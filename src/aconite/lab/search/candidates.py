"""The search itself: candidate after candidate is trained, until the budget or the space is at its end."""

from __future__ import annotations

import time
from collections.abc import Callable

import optuna
from optuna.trial import FrozenTrial, TrialState

from aconite.lab.search.child import SearchData, train_child
from aconite.lab.search.settings import SearchSettings
from aconite.lab.search.shared import SharedStudy
from aconite.lab.search.space import Candidate, Space
from aconite.lab.search.strategies import Chooser, Exhausted

__all__ = ["best_trials", "try_candidates"]

_FRUITLESS = 500  # proposals in a row that were tried before: then the sampler has no new ones


def try_candidates(
    shared: SharedStudy,
    space: Space,
    settings: SearchSettings,
    data: SearchData,
    origin: str,
    tell: Callable[[str], None],
) -> None:
    """Try functions until the study has its number of trials, the minutes are over, or none is left."""
    report = _Report(shared, settings, tell)
    fruitless = 0
    while fruitless < _FRUITLESS and not report.time_is_over():
        alive = shared.bury()
        enough = settings.trials is not None and len(shared.counted()) >= settings.trials
        try:
            if enough:
                raise Exhausted
            trial, candidate = _next(shared, space)
        except Exhausted:
            if alive:  # what another process is at may still be left undone
                shared.wait()
                continue
            tell("all trials are done" if enough else "every function of the space has been tried")
            return
        with shared.alive(trial):
            new = candidate is not None and _claimed(shared, trial, candidate, settings.trials)
            fruitless = 0 if new else fruitless + 1
            if new and candidate is not None:
                trial.set_user_attr("made with", origin)
                _train(shared, trial, candidate, settings, data)
                report.told(trial.number)
    if fruitless:
        tell(f"the last {fruitless} proposals had been tried before: the search ends here")


def best_trials(shared: SharedStudy) -> list[FrozenTrial]:
    """The functions that were trained to the end, the best first, and the earlier where they are level."""
    done = [trial for trial in shared.counted() if trial.state == TrialState.COMPLETE]
    return sorted(done, key=lambda trial: (trial.value, trial.number))


def _next(shared: SharedStudy, space: Space) -> tuple[optuna.Trial, Candidate | None]:
    """A trial and its function: first one that a process died over, then the strategy's choice."""
    if (lost := shared.lost()) is not None:
        shared.study.enqueue_trial(lost.params)
    if isinstance(shared.study.sampler, Chooser):
        try:
            shared.study.sampler.prepare(shared)
        except Exhausted:
            if lost is None:
                raise
    trial = shared.study.ask()
    choices = {gene: str(trial.suggest_categorical(gene, options)) for gene, options in space.genes.items()}
    return trial, space.candidate(choices)


def _claimed(shared: SharedStudy, trial: optuna.Trial, candidate: Candidate, most: int | None) -> bool:
    """Whether the trial may train: not where the function was tried before, whose value it then takes over."""
    trial.set_user_attr("expression", candidate.text)
    other = shared.claim(trial, candidate.key)
    if other is not None:
        if other.state == TrialState.COMPLETE:
            trial.set_user_attr("repeats", other.number)
            shared.finish(trial, other.value)
        return False
    return most is None or sum(earlier.number < trial.number for earlier in shared.counted()) < most


def _train(
    shared: SharedStudy, trial: optuna.Trial, candidate: Candidate, settings: SearchSettings, data: SearchData
) -> None:
    started = time.perf_counter()

    def watch(epochs: int, error: float) -> None:
        trial.report(error, epochs)
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        child = train_child(
            candidate.text, settings.seed, settings.child("relu"), data, None if settings.pruner == "none" else watch
        )
    except optuna.TrialPruned:
        trial.set_user_attr("seconds", round(time.perf_counter() - started, 3))
        shared.study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        return
    trial.set_user_attr("seconds", round(child.seconds, 3))
    shared.finish(trial, child.validation_error, child.failure)


class _Report:
    """Tells how far the search is, every few seconds."""

    def __init__(self, shared: SharedStudy, settings: SearchSettings, tell: Callable[[str], None]) -> None:
        self.shared, self.settings, self.tell = shared, settings, tell
        self.started = self.last = time.monotonic()
        self.here = 0

    def time_is_over(self) -> bool:
        minutes = self.settings.minutes
        return minutes is not None and time.monotonic() - self.started > 60 * minutes

    def told(self, number: int) -> None:
        self.here += 1
        now = time.monotonic()
        if now - self.last < 10:
            return
        self.last = now
        counted = self.shared.counted()
        best = [f", best {best.value:.2f} % {best.user_attrs['expression']}" for best in best_trials(self.shared)[:1]]
        limit = "" if self.settings.trials is None else f"/{self.settings.trials}"
        self.tell(
            f"{len(counted)}{limit} tried, {3600 * self.here / (now - self.started):.0f} an hour here{''.join(best)}"
        )
