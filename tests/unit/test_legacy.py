"""The deep import paths of earlier releases: every name of the table resolves, or is listed here as not built yet."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import captum
from captum import _legacy

# Home, or home:name, of what is not built yet -> what it waits for. An entry goes when its room lands, says the test.
NOT_YET: dict[str, str] = {}

# what programs of today import, as they write it
CLIENTS = {
    "captum._utils.common": "_expand_additional_forward_args _expand_and_update_additional_forward_args "
    "_expand_and_update_baselines _expand_and_update_target _expand_target _format_additional_forward_args "
    "_format_baseline _format_inputs _format_output _format_tensor_into_tuples _is_tuple _reduce_list _run_forward "
    "_select_targets _validate_input",
    "captum._utils.models": "Model",
    "captum._utils.models.linear_model": "LinearModel SkLearnLinearModel SkLearnLasso SkLearnLinearRegression",
    "captum._utils.models.model": "Model",
    "captum._utils.progress": "progress",
    "captum._utils.typing": "BaselineType Literal TargetType TensorOrTupleOfTensorsGeneric",
    "captum.attr._core.integrated_gradients": "IntegratedGradients",
    "captum.attr._core.lime": "construct_feature_mask",
    "captum.attr._utils.approximation_methods": "approximation_parameters",
    "captum.attr._utils.attribution": "Attribution GradientAttribution PerturbationAttribution",
    "captum.attr._utils.batching": "_batch_attribution _batch_example_iterator",
    "captum.attr._utils.common": "_format_and_verify_sliding_window_shapes _format_and_verify_strides "
    "_format_input_baseline _reshape_and_sum _validate_input",
    "captum.log": "log_usage",
}

NAMES = [(module, name) for module in _legacy.TABLE for name in _legacy.names(module)]


def waits(module: str, name: str) -> bool:
    place, new = _legacy.names(module)[name]
    package = ".".join(module.split(".")[:2])  # the real package above the old module
    return any(entry in NOT_YET for entry in (place, f"{place}:{new}", package))


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[f"{m.removeprefix('captum.')}.{n}" for m, n in NAMES])
def test_every_name_resolves(module: str, name: str) -> None:
    if waits(module, name):
        try:
            getattr(importlib.import_module(module), name)
        except ImportError as fault:
            message = str(fault)
        else:
            pytest.fail(f"{_legacy.names(module)[name]} has landed: take it out of NOT_YET")
        assert f"{module}.{name} is not available" in message or "No module named" in message
        return
    value = getattr(importlib.import_module(module), name)
    assert value is _legacy.home(module, name)


@pytest.mark.parametrize("module", CLIENTS)
def test_what_clients_import(module: str) -> None:
    for name in CLIENTS[module].split():
        namespace: dict[str, object] = {}
        exec(f"from {module} import {name}", namespace)
        assert namespace[name] is not None


def test_the_same_objects_as_the_public_ones() -> None:
    from captum._utils.models import Model
    from captum.attr._core.saliency import Saliency

    assert Saliency is captum.attr.Saliency
    assert Model is captum.linear.Model


def test_no_import_is_needed_for_attributes() -> None:
    code = "import captum; print(captum._utils.models.linear_model.train.l2_loss.__name__)"
    environment = {"PYTHONPATH": str(Path(_legacy.__file__).parents[1])}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert run.stdout == "l2_loss\n"


def test_unknown_names_and_modules() -> None:
    with pytest.raises(ImportError, match="cannot import name 'nope'"):
        from captum._utils.common import nope  # noqa: F401
    assert not hasattr(captum._utils.common, "nope")
    for module in ("captum.attr._core.nope", "captum._nope", "captum.nope"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(module)


@pytest.mark.parametrize("module", _legacy.NOT_SERVED)
def test_what_has_no_counterpart_says_why(module: str) -> None:
    for listed, why in _legacy.NOT_SERVED[module].items():
        for name in listed.split():
            assert name not in _legacy.names(module)
            with pytest.raises(ImportError, match=name) as fault:
                getattr(importlib.import_module(module), name)
            assert why in str(fault.value)


def test_real_modules_come_first() -> None:
    finder = next(f for f in sys.meta_path if isinstance(f, _legacy.LegacyFinder))
    for real in ("captum.attr", "captum.log", "captum._legacy", "captum._engine", "captum.module", "numpy"):
        assert finder.find_spec(real, None) is None
    _legacy.install()
    assert sum(isinstance(f, _legacy.LegacyFinder) for f in sys.meta_path) == 1


def test_dir_lists_names_and_modules_below() -> None:
    import captum.attr._core

    assert {"lime", "layer", "neuron"} <= set(dir(captum.attr._core))
    assert "construct_feature_mask" in dir(captum.attr._core.lime)
