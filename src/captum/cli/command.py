"""What is typed and what it does; every mistake ends in one line with its remedy and exit code 2."""

from __future__ import annotations

import argparse
import json
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import captum
from captum.cli.faults import one_line
from captum.cli.models import MODEL_FORMS

if TYPE_CHECKING:
    from captum.attr.registry import Method
    from captum.cli.models import Subject
    from captum.cli.run import Order

__all__ = ["main"]

_DEMO_METHODS = (
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "integrated_gradients+smoothgrad_sq",
    "gradient_shap",
    "layer_grad_cam",
    "deep_lift",
    "lrp",
    "guided_grad_cam",
    "occlusion",
    "kernel_shap",
)
_DEMO_SETTINGS: dict[str, object] = {
    "composite": "epsilon_gamma_box",  # LRP's ε alone is as noisy as a gradient in so deep a network
}
_MISTAKE = 2
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What was typed after ``captum``; ``None`` reads it from the process.

    Returns:
        The exit code: 0, or 2 after a mistake that left nothing to show, or 130 when interrupted.
    """
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    with warnings.catch_warnings():
        warnings.showwarning = _note
        try:
            return run(options)
        except KeyboardInterrupt:
            print("captum: interrupted", file=sys.stderr)
            return _INTERRUPTED
        except BrokenPipeError:  # the reader of our output has seen enough
            sys.stderr.close()
            return 0
        except Exception as error:  # noqa: BLE001 - the outermost border: one line instead of a traceback
            _complain(error, "", options)
            return _MISTAKE


def _complain(error: Exception, about: str, options: argparse.Namespace) -> None:
    if options.traceback:
        traceback.print_exception(error)
    print(f"captum: error: {about}{one_line(error)}", file=sys.stderr)


def _note(message: Warning | str, category: type[Warning], *_: object) -> None:
    """Show a warning as one line; the other arguments of ``warnings.showwarning`` say where in the library it arose."""
    if issubclass(category, UserWarning):
        print(f"captum: note: {' '.join(str(message).split())}", file=sys.stderr)


# ---- what can be typed ---------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - exit() never returns
        self.exit(_MISTAKE, f"captum: error: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="captum", description="Why did my model say that?")
    parser.add_argument("--version", action="version", version=f"captum {captum.__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB", parser_class=_Parser)
    everywhere = _Parser(add_help=False)
    everywhere.add_argument("--traceback", action="store_true", help="after an error, show where it came from")
    _add_explain(verbs.add_parser("explain", parents=[everywhere], help="explain what a model says about a photo"))
    demo = verbs.add_parser("demo", parents=[everywhere], help="explain the photo of a cat with a pretrained network")
    demo.add_argument("--out", type=Path, default=Path("demo-output"), metavar="DIR", help="default: %(default)s")
    demo.add_argument("--json", action="store_true", help="print the results as JSON")
    demo.set_defaults(run=_demo)
    methods = verbs.add_parser("methods", parents=[everywhere], help="list every method with its meaning")
    methods.add_argument("--json", action="store_true", help="print the list as JSON")
    methods.set_defaults(run=_methods)
    return parser


def _add_explain(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("photo", type=Path, metavar="PHOTO", help="a picture file")
    add("--model", required=True, metavar="MODEL", help=MODEL_FORMS)
    add(
        "--method",
        action="append",
        metavar="METHOD",
        help="a name of `captum methods`; NAME+smoothgrad, +smoothgrad_sq or +vargrad averages it over noisy copies; "
        "repeat for several (default: integrated_gradients)",
    )
    add("--target", default="argmax", metavar="CLASS", help="number or name of a class (default: the likeliest)")
    add("--out", type=Path, default=Path("captum-output"), metavar="DIR", help="default: %(default)s")
    add("--layer", metavar="NAME", help="the module that layer methods look at (default: the last that knows places)")
    add("--n-steps", type=_positive, metavar="N", help="points on the path of path methods")
    add("--n-samples", type=_positive, metavar="N", help="draws of random methods")
    add("--seed", type=int, default=0, metavar="N", help="of random methods (default: %(default)s)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="any further argument of the methods; repeat")
    add("--json", action="store_true", help="print the results as JSON")
    add("--save", action="store_true", help="also save each explanation, to be read by captum.Explanation.load")
    add("--download", action="store_true", help="fetch weights that are not on this machine")
    parser.set_defaults(run=_explain)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        message = f"expected a whole number above 0, got {text!r}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


# ---- what it does --------------------------------------------------------------------------------------------------


def _explain(options: argparse.Namespace) -> int:
    from captum.cli.models import load
    from captum.cli.photo import read
    from captum.cli.request import settings
    from captum.cli.run import Order

    given = settings(options.set, n_steps=options.n_steps, n_samples=options.n_samples)
    order = Order(
        photo=read(options.photo),
        title=options.photo.name,
        methods=tuple(options.method or ["integrated_gradients"]),
        target=options.target,
        folder=options.out,
        layer=options.layer,
        seed=options.seed,
        settings=given,
        save=options.save,
    )
    order.check()
    return _deliver(order, load(options.model, download=options.download), options)


def _demo(options: argparse.Namespace) -> int:
    from captum.cli.models import load
    from captum.cli.photo import chelsea
    from captum.cli.run import Order

    order = Order(chelsea(), "chelsea", _DEMO_METHODS, folder=options.out, settings=_DEMO_SETTINGS)
    order.check()
    return _deliver(order, load("efficientnet-lite0"), options)


def _deliver(order: Order, subject: Subject, options: argparse.Namespace) -> int:
    """Carry out an order; it is a failure only when no method could be carried out."""
    from captum.cli.run import carry_out

    outcome = carry_out(order, subject, sys.stderr if options.json else sys.stdout)
    for failure in outcome.faults:
        _complain(failure.error, f"{failure.title}: " if len(order.requests) > 1 else "", options)
    if outcome.findings and options.json:
        print(json.dumps(outcome.as_json(), indent=2))
    if outcome.interrupted:
        print("captum: interrupted", file=sys.stderr)
        return _INTERRUPTED
    return 0 if outcome.findings else _MISTAKE


def _methods(options: argparse.Namespace) -> int:
    from captum.attr.registry import METHODS

    rows = list(METHODS.values())
    if options.json:
        print(json.dumps([_row_as_json(row) for row in rows], indent=2))
        return 0
    width = max(len(row.name) for row in rows)
    headings = {
        "input": "of the input",
        "layer": "of a layer (--layer NAME)",
        "neuron": "of the input, seen by a neuron",
    }
    for kind, heading in headings.items():
        print(f"Attributions {heading}")
        for row in rows:
            if row.kind == kind:
                print(f"  {row.name:<{width}}  {row.summary}")
        print()
    return 0


def _row_as_json(row: Method) -> dict[str, str]:
    return {"name": row.name, "title": row.title, "kind": row.kind, "summary": row.summary}
