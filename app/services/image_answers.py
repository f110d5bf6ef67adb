"""Everything that is known about one image without attribution: answers, decision trace, novelty, similar images."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from dmpo_explore_app.services import code_export, model_queries, own_runs, records
from dmpo_explore_app.services.images import ChosenImage
from dmpo_explore_app.services.model_queries import Question

import dmpo_explore as dx

SIMILAR = 10  # images of the record that are shown


class ImageAnswers(NamedTuple):
    """Answers of all exits about an image, and a policy's decision; ``record``: of its split, ``one``: of it alone."""

    image: ChosenImage
    record: dx.ExitRecord
    policy: dx.Policy
    one: dx.ExitRecord
    trace: dx.analysis.DecisionTrace

    @property
    def exit(self) -> int:
        """The exit taken, 0-based."""
        return self.trace.exit

    @property
    def calibrated(self) -> dx.ExitRecord:
        """``one`` with the scores that the policy reads: after its temperatures, if it has any."""
        temperatures = self.policy.temperatures
        return dx.fitting.tempered_record(self.one, temperatures) if temperatures else self.one

    @property
    def label(self) -> int | None:
        """The true class; None for an uploaded image."""
        return None if self.image.row is None else int(self.one.labels[0])

    @property
    def prediction(self) -> int:
        return int(self.one.prediction[0, self.exit])

    @property
    def contrast(self) -> tuple[int, int] | None:
        """An incorrect exit and the correct one after it, the exit taken if that is one; None without such a pair."""
        correct = self.one.correct[0].tolist() if self.label is not None else []
        found = [(k, k + 1) for k, pair in enumerate(pairwise(correct)) if pair == (False, True)]
        return max(found, key=lambda pair: pair[1] == self.exit, default=None)

    def most_probable(self, n: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]] | None:
        """(K, n) most probable classes of every exit, and their probabilities; None without logits."""
        if self.one.logits is None:
            return None
        return dx.analysis.most_probable(self.one.logits[0], n, self.policy.temperatures)


def answers_about(image: ChosenImage, record: dx.ExitRecord, policy: dx.Policy) -> ImageAnswers:
    """Read a recorded image's answers, or query the model about an uploaded one: may raise
    `model_queries.UNAVAILABLE`."""
    if image.row is not None:
        one, trace = record.subset([image.row]), dx.analysis.trace_decision(record, policy, image.row)
        return ImageAnswers(image, record, policy, one, trace)
    one = model_queries.exit_answers(image, record)
    return ImageAnswers(image, record, policy, one, dx.analysis.trace_decision(one, policy, 0))


def with_logits(answers: ImageAnswers) -> ImageAnswers:
    """``answers`` with the model's logits where the record holds none; raises as `model_queries.exit_answers`."""
    one = answers.one
    if one.logits is not None:
        return answers
    now = model_queries.exit_answers(answers.image, answers.record)
    return answers._replace(one=replace(one, logits=now.logits))


def novelty(answers: ImageAnswers) -> tuple[float, str]:
    """Share of the val images with closer neighbours than this image, NaN if unknown (the prediction and confidence of
    a single exit are too little to compare); what was compared."""
    run, split, row = answers.image.run, answers.image.split, answers.image.row
    if "val" not in run.splits() or (answers.one.n_exits == 1 and answers.one.logits is None):
        return math.nan, ""
    detector = records.novelty_detector(run, "val", answers.one.logits is not None)
    return detector.score(answers.one, without=row if split == "val" else None), detector.by


def similar(answers: ImageAnswers) -> tuple[npt.NDArray[np.int64], str]:
    """Rows of the recorded images with the most similar answers, nearest first; what was compared."""
    run, split, row = answers.image.run, answers.image.split, answers.image.row
    detector = records.novelty_detector(run, split, answers.one.logits is not None)
    return detector.nearest(answers.one, SIMILAR, without=row), detector.by


def python_code(answers: ImageAnswers, question: Question) -> str:
    image = answers.image
    if isinstance(image.run, own_runs.OwnRun):
        return (
            f"{code_export.python_code(image.run, image.split, answers.policy)}\n"
            f"print(policy.exits(record)[{image.row}] + 1, record.confidence[{image.row}])"
        )
    load = f"run = dx.load_run({image.run.reference!r})\nrecord = run.record({image.split!r})"
    lines = [
        code_export.program(
            load, answers.policy, code_export.fitting_record(image.run), code_export.target_of(answers.policy)
        )
    ]
    if image.upload is None:
        lines += [
            f"print(policy.exits(record)[{image.row}] + 1, record.confidence[{image.row}])\n",
            "model = run.model()",
            f"image = run.inputs({image.split!r}, [{image.row}])[0]",
        ]
    else:
        lines += [
            "\nmodel = run.model()",
            f"image = dx.data.make_transform(model.preprocess)(dx.data.open_image({image.upload.name!r}))",
            "out = dx.infer(model, image[None], policy)",
            "print(out.exit + 1, [run.class_names[label] for label in out.label], out.confidence)",
        ]
    options = f"target={question.target!r}, method={question.method!r}, baseline={question.baseline!r}"
    return "\n".join([*lines, f"maps = dx.compare_exits(model, image, {options})"])
