"""Texts about background trainings: state, progress and durations."""

from __future__ import annotations

import dmpo_explore as dx


def headline(status: dx.jobs.Status) -> str:
    epochs, progress = f"{status.epoch} of {counted(status.epochs, 'epoch')}", status.progress
    match status.state:
        case dx.jobs.RUNNING:
            if progress is not None and _beside(progress):
                return f"{progress.what}, {epochs}"
            return f"trained, {epochs}" if _trained(status) else f"training, {epochs} done"
        case dx.jobs.STOPPING:
            return "stopping …"
        case dx.jobs.FINISHED:
            return f"trained and recorded, {epochs}"
        case dx.jobs.STOPPED:
            return f"stopped, {epochs} kept" if status.epoch else "stopped before the first epoch was finished"
        case dx.jobs.FAILED:
            return f"failed, {epochs} kept" if status.epoch else "failed"
        case _:
            return "its run is missing"


def _beside(progress: dx.jobs.Progress) -> bool:
    return progress.what.startswith(("checking", "recording"))


def _trained(status: dx.jobs.Status) -> bool:
    return 0 < status.epochs <= status.epoch


def progress_text(status: dx.jobs.Status, progress: dx.jobs.Progress, rates: dx.jobs.Rates | None) -> str:
    """Steps done, loss, time per step, time left and memory; ``rates``: what was measured before the start."""
    if _trained(status) and not _beside(progress):
        return "All epochs are done; its splits are recorded next." if progress.epochs else "Finishing …"
    parts = [f"{progress.done:,} of {progress.total:,} {'steps' if progress.epochs else 'images'}"]
    if progress.epochs:
        parts[0] = f"epoch {progress.epoch} of {progress.epochs}, {parts[0]}"
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.3f}")
    if progress.seconds_each is not None and progress.epochs:
        before = f" (measured before: {step_range(rates.steps)})" if rates else ""
        parts.append(f"{step_time(progress.seconds_each)} a step{before}")
    if progress.seconds_left is not None:
        more = ", then recording" if progress.epochs else ""
        parts.append(f"about {duration(progress.seconds_left)} left{more}")
    if status.memory:
        parts.append(f"{status.memory / 2**30:.1f} GiB now, {progress.memory / 2**30:.1f} at most")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``1 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def counted(number: int, what: str) -> str:
    """``1 step``, ``2 steps``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def step_time(seconds: float) -> str:
    """Time of a step: ``52 ms``, ``1.3 s``."""
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def step_range(steps: tuple[float, ...]) -> str:
    """Shortest to longest time of a step; one time where both are shown alike."""
    return " to ".join(dict.fromkeys((step_time(min(steps)), step_time(max(steps)))))
