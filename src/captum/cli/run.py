"""From an order to its pictures: one forward pass to see what the model says, then one explanation per method."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import torch
from torch import Tensor

import captum
from captum._engine.score import read_output
from captum.attr.explaining import explain
from captum.attr.explanation import Explanation
from captum.cli.defaults import photo_defaults
from captum.cli.faults import one_line
from captum.cli.late_layer import late_layer
from captum.cli.models import Subject
from captum.cli.photo import references
from captum.cli.request import Request, missing, request, target_index, unused
from captum.errors import CaptumError, InputError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Failure", "Finding", "Order", "Outcome", "Prediction", "carry_out"]

_TOP = 5


@dataclass(frozen=True)
class Order:
    """What is to be explained, and how.

    Args:
        photo: The picture.
        title: What to call it.
        methods: Methods as typed.
        target: Class as typed.
        folder: Where the results go.
        layer: Path of a module for layer methods; ``None`` for the model's late layer.
        seed: Seed of random methods.
        settings: Further arguments, each given to the methods that take it.
        save: Whether to save the explanations themselves.
    """

    photo: Image
    title: str
    methods: tuple[str, ...]
    target: str = "argmax"
    folder: Path = Path("captum-output")
    layer: str | None = None
    seed: int = 0
    settings: Mapping[str, object] = field(default_factory=dict[str, object])
    save: bool = False

    @property
    def requests(self) -> tuple[Request, ...]:
        """The methods, read; one named twice counts once."""
        return tuple(dict.fromkeys(request(text) for text in self.methods))

    @property
    def reads_layer(self) -> bool:
        """Whether one of the methods looks at a layer."""
        return any("layer" in one.method.needs for one in self.requests)

    def check(self) -> None:
        """Refuse what can be refused before a model is loaded."""
        unused(self.settings, self.requests)
        if self.layer is not None and not self.reads_layer:
            message = f"no chosen method looks at a layer, so --layer {self.layer} says nothing: leave it out"
            raise InputError(message)
        missing(self.settings, self.requests)
        if self.folder.exists() and not self.folder.is_dir():
            message = f"--out {self.folder} is a file; name a folder"
            raise InputError(message)


@dataclass(frozen=True)
class Prediction:
    """One class and how likely the model thinks it is."""

    index: int
    name: str
    probability: float


@dataclass(frozen=True)
class Finding:
    """What one method found, the picture of it, and where it is saved if it is."""

    request: Request
    title: str
    explanation: Explanation
    picture: Path
    saved: Path | None


@dataclass(frozen=True)
class Failure:
    """A method that found nothing, and why."""

    request: Request
    title: str
    error: Exception


class _InterruptedError(CaptumError):
    """The user had seen enough."""


@dataclass(frozen=True)
class Outcome:
    """Everything an order brought; without any finding there is no page."""

    order: Order
    subject: Subject
    predictions: tuple[Prediction, ...]
    target: Prediction
    findings: tuple[Finding, ...]
    failures: tuple[Failure, ...]
    page: Path

    @property
    def faults(self) -> tuple[Failure, ...]:
        """Methods that could not be carried out, without those that the user did not wait for."""
        return tuple(one for one in self.failures if not isinstance(one.error, _InterruptedError))

    @property
    def interrupted(self) -> bool:
        """Whether the user did not wait for all of it."""
        return len(self.faults) < len(self.failures)

    def as_json(self) -> dict[str, object]:
        """Return the outcome as plain values."""
        return {
            "version": captum.__version__,
            "photo": self.order.title,
            "model": self.subject.name,
            "target": vars(self.target),
            "predictions": [vars(prediction) for prediction in self.predictions],
            "methods": [_finding_as_json(finding) for finding in self.findings],
            "failures": [_failure_as_json(failure) for failure in self.failures],
            "page": str(self.page),
        }


@dataclass(frozen=True)
class _Task:
    """What every method of an order is asked."""

    order: Order
    subject: Subject
    inputs: Tensor
    target: Prediction
    layer: str | None


def _finding_as_json(finding: Finding) -> dict[str, object]:
    explanation = finding.explanation
    residual = explanation.residual
    return {
        "method": finding.request.method.name,
        "title": finding.title,
        "smoothing": finding.request.smoothing,
        "layer": explanation.layer,
        "seconds": round(explanation.seconds, 3),
        "completeness_residual": None if residual is None else float(residual[0]),
        "picture": str(finding.picture),
        "saved": None if finding.saved is None else str(finding.saved),
    }


def _failure_as_json(failure: Failure) -> dict[str, object]:
    request = failure.request
    return {"method": request.method.name, "smoothing": request.smoothing, "error": one_line(failure.error)}


def carry_out(order: Order, subject: Subject, out: TextIO) -> Outcome:
    """Explain a photo.

    Args:
        order: What is asked for.
        subject: The model.
        out: Where to say what is going on.

    Returns:
        Predictions, explanations, the files written, and what went wrong with methods that could not be carried out.

    Raises:
        InputError: The order does not fit the model.
    """
    from captum.cli.page import write_page

    layer = _layer(order, subject)
    inputs = subject.prepare(order.photo)
    probabilities = _probabilities(subject, inputs)
    ranked = [int(i) for i in probabilities.argsort(descending=True)]
    predictions = [Prediction(i, subject.label(i), float(probabilities[i])) for i in ranked]
    index = target_index(order.target, subject, ranked[0], len(ranked))
    target = next(prediction for prediction in predictions if prediction.index == index)
    if layer is None and order.reads_layer:
        layer = late_layer(subject, inputs, index)
    _say_predictions(predictions[:_TOP], target, subject, out)
    _make(order.folder)
    found = _try_each(_Task(order, subject, inputs, target, layer), out)
    findings = tuple(one for one in found if isinstance(one, Finding))
    failures = tuple(one for one in found if isinstance(one, Failure))
    page = order.folder / "index.html"
    outcome = Outcome(order, subject, tuple(predictions[:_TOP]), target, findings, failures, page)
    if findings:
        write_page(outcome)
        _say_files(outcome, out)
    return outcome


def _try_each(task: _Task, out: TextIO) -> list[Finding | Failure]:
    """Carry out every method; one that fails does not keep the others from it, an interruption does."""
    from captum.cli.progress import Progress

    requests, found = task.order.requests, list[Finding | Failure]()
    with Progress(len(requests), out) as progress:
        for one in requests:
            title = one.title(task.order.settings)
            progress.begin(title)
            try:
                finding = _find(task, one, title, progress.watched)
            except KeyboardInterrupt:
                return found + [_left(other, task) for other in requests[requests.index(one) :]]
            except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this method alone
                traceback.clear_frames(error.__traceback__)
                found.append(Failure(one, title, error))
                progress.end(title, "failed")
            else:
                found.append(finding)
                progress.end(title, f"{finding.explanation.seconds:6.1f} s")
    return found


def _left(one: Request, task: _Task) -> Failure:
    return Failure(one, one.title(task.order.settings), _InterruptedError("not done: interrupted"))


def _find(task: _Task, one: Request, title: str, watched: bool) -> Finding:
    """Explain, draw and save."""
    from captum.cli.picture import draw

    order = task.order
    explanation = _explain(task, one, watched)
    picture = order.folder / f"{one.key}.png"
    draw(order, task.subject, one, explanation, task.target).savefig(picture, dpi=120)
    saved = order.folder / one.key if order.save else None
    if saved is not None:
        explanation.save(saved)
    return Finding(one, title, explanation, picture, saved)


def _make(folder: Path) -> None:
    """Make the folder of the results, before any work goes into them."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        message = f"--out {folder} cannot be made ({fault.strerror}); name a folder that can be written"
        raise InputError(message) from fault


def _layer(order: Order, subject: Subject) -> str | None:
    """The layer that the user named, which has to exist."""
    if order.layer is None:
        return None
    modules = subject.modules()
    if order.layer in modules and order.layer:
        return order.layer
    from difflib import get_close_matches

    close = get_close_matches(order.layer, modules, n=3, cutoff=0.3) or list(modules)[1:4]
    message = f"{subject.name} has no layer {order.layer!r}; near it: {', '.join(close)}"
    raise InputError(message)


def _probabilities(subject: Subject, inputs: Tensor) -> Tensor:
    """What the model says about the photo, ``(classes,)``."""
    with torch.no_grad():
        output: object = subject.model(inputs)
    logits = read_output(output)
    if logits.dim() != 2 or len(logits) != 1:
        message = (
            f"{subject.name} must return one score per class, (1, classes), for {tuple(inputs.shape)}; "
            f"got {tuple(logits.shape)}"
        )
        raise InputError(message)
    row = logits[0].double()
    is_distribution = bool((row >= 0).all()) and abs(float(row.sum()) - 1) < 1e-3 and len(row) > 1
    probabilities = row if is_distribution else row.softmax(0)
    if bool(probabilities.isnan().any()):
        message = f"{subject.name} returns scores that are no numbers (NaN); check its weights and its preprocessing"
        raise InputError(message)
    return probabilities


def _explain(task: _Task, one: Request, watched: bool) -> Explanation:
    order, subject, inputs, layer = task.order, task.subject, task.inputs, task.layer
    bars = {} if one.smoothing else {"show_progress": watched}
    given = {"seed": order.seed, **bars, **photo_defaults(one, inputs), **order.settings}
    own = one.own
    arguments: dict[str, object] = {name: value for name, value in given.items() if name in own}
    baselines = arguments.pop(
        "baselines", references(order.photo, subject) if "baselines" in one.method.needs else None
    )
    tunnel = {name: value for name, value in given.items() if name in one.arguments and name not in own}
    return explain(
        subject.model,
        inputs,
        one.method.name,
        task.target.index,
        layer=layer if "layer" in one.method.needs else None,
        baselines=baselines,
        noise_tunnel={"nt_type": one.smoothing, "nt_show_progress": watched, **tunnel} if one.smoothing else None,
        class_names=dict(subject.labels) or None,
        modality=None if one.method.kind == "layer" else "image",
        neuron_selector=arguments.pop("neuron_selector", None),
        **arguments,
    )


def _say_predictions(best: list[Prediction], target: Prediction, subject: Subject, out: TextIO) -> None:
    print(f"{subject.name} sees:", file=out)
    for prediction in best:
        bar = "█" * round(30 * prediction.probability)
        print(f"  {prediction.probability:7.2%}  {prediction.name:<28.28}  {bar}".rstrip(), file=out)
    print(f"Explaining {target.name!r} (class {target.index}).", file=out)


def _say_files(outcome: Outcome, out: TextIO) -> None:
    print("Written:", file=out)
    for finding in outcome.findings:
        print(f"  {finding.picture}", file=out)
        if finding.saved is not None:
            print(f"  {finding.saved}{os.sep}   to be read by captum.Explanation.load", file=out)
    print(f"  {outcome.page}   all of it on one page: open it in a browser", file=out)
