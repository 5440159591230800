"""One table: the deep import paths of earlier releases, and where their names live here.

``from captum.attr._core.lime import construct_feature_mask`` keeps working: a finder at the end of ``sys.meta_path``
serves every module of the table as one whose names are looked up on first use. Real modules always come first.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["NOT_SERVED", "TABLE", "home", "install", "names"]

_FORMS = "captum.compatibility.forms"
_EXPANSION = "captum.compatibility.expansion"
_RUNNING = "captum.compatibility.running"
_BATCHING = "captum.compatibility.batching"

# Old module -> home module -> names there. ``old=new`` where the name is another; a leading underscore is dropped where
# the home has none.
TABLE: dict[str, dict[str, str]] = {
    "captum._utils.av": {"captum.influence.activations": "AV"},
    "captum._utils.common": {
        _FORMS: "_is_tuple _format_inputs _format_tensor_into_tuples _format_baseline _format_additional_forward_args "
        "_format_output _format_outputs _format_feature_mask _get_max_feature_index=max_feature_index _reduce_list "
        "_validate_input _flatten_tensor_or_tuple safe_div parse_version",
        _EXPANSION: "ExpansionTypes _expand_additional_forward_args _expand_target _expand_feature_mask "
        "_expand_and_update_additional_forward_args _expand_and_update_baselines _expand_and_update_target",
        _RUNNING: "_run_forward _select_targets _validate_target _verify_select_neuron _construct_future_forward "
        "_get_module_from_name _extract_device _sort_key_list",
    },
    "captum._utils.gradient": {
        "captum.compatibility.derivatives": "apply_gradient_requirements undo_gradient_requirements compute_gradients "
        "compute_layer_gradients_and_eval construct_neuron_grad_fn",
    },
    "captum._utils.models": {"captum.linear": "Model"},
    "captum._utils.models.model": {"captum.linear": "Model"},
    "captum._utils.models.linear_model": {
        "captum.linear": "LinearModel SGDLinearModel SGDLasso SGDRidge SGDLinearRegression SkLearnLinearModel "
        "SkLearnLasso SkLearnRidge SkLearnLinearRegression",
    },
    "captum._utils.models.linear_model.model": {
        "captum.linear": "LinearModel SGDLinearModel SGDLasso SGDRidge SGDLinearRegression SkLearnLinearModel "
        "SkLearnLasso SkLearnRidge SkLearnLinearRegression SkLearnLogisticRegression SkLearnSGDClassifier",
    },
    "captum._utils.models.linear_model.train": {
        "captum.linear.descent": "l2_loss ConvergenceTracker LossWindow sgd_train_linear_model",
        "captum.linear.model": "NormLayer",
        "captum.linear.scikit": "sklearn_train_linear_model",
    },
    "captum._utils.progress": {
        "captum.compatibility.progress": "T IterableType BaseProgress IterableProgress Progress DisableErrorIOWrapper "
        "NullProgress progress",
    },
    "captum._utils.sample_gradient": {
        "captum.influence.sample_gradients": "linear_param_grads conv2d_param_grads SUPPORTED_MODULES LossMode "
        "SampleGradientWrapper",
    },
    "captum._utils.typing": {
        "captum.compatibility.kinds": "BaselineTupleType BaselineType BatchEncodingType List Literal Module "
        "ModuleOrModuleList Optional PassThroughOutputType Protocol SliceIntType TargetType Tensor TensorLikeList "
        "TensorLikeList1D TensorLikeList2D TensorLikeList3D TensorLikeList4D TensorLikeList5D "
        "TensorOrTupleOfTensorsGeneric TokenizerLike Tuple TupleOrTensorOrBoolGeneric TypeVar Union UserDict overload",
    },
    "captum.attr._models.base": {
        "captum.attr": "InterpretableEmbeddingBase TokenReferenceBase configure_interpretable_embedding_layer "
        "remove_interpretable_embedding_layer",
    },
    "captum.attr._utils.approximation_methods": {
        "captum.attr.paths.quadrature": "Riemann SUPPORTED_RIEMANN_METHODS SUPPORTED_METHODS approximation_parameters "
        "riemann_builders gauss_legendre_builders",
    },
    "captum.attr._utils.attribution": {
        "captum.attr.base": "Attribution GradientAttribution PerturbationAttribution InternalAttribution "
        "LayerAttribution NeuronAttribution",
    },
    "captum.attr._utils.baselines": {"captum.attr": "ProductBaselines"},
    "captum.attr._utils.batching": {
        _BATCHING: "_batch_attribution _batch_example_iterator _tuple_splice_range _batched_generator "
        "_batched_operator",
    },
    "captum.attr._utils.class_summarizer": {"captum.attr.averages.summarizer": "KeyType ClassSummarizer"},
    "captum.attr._utils.common": {
        _FORMS: "_format_input_baseline _format_callable_baseline _tensorize_baseline _reshape_and_sum "
        "_validate_input=validate_path_input _validate_noise_tunnel_type _construct_default_feature_mask",
        "captum.compatibility.windows": "_format_and_verify_sliding_window_shapes _format_and_verify_strides",
        "captum.compatibility.results": "_compute_conv_delta_and_format_attrs _call_custom_attribution_func _sum_rows",
        _RUNNING: "_validate_target",
    },
    "captum.attr._utils.custom_modules": {"captum.attr.input_modules": "Addition_Module"},
    "captum.attr._utils.input_layer_wrapper": {"captum.attr.input_modules": "InputIdentity ModelInputWrapper"},
    "captum.attr._utils.interpretable_input": {
        "captum.attr": "InterpretableInput TextTemplateInput TextTokenInput ImageMaskInput",
    },
    "captum.attr._utils.lrp_rules": {
        "captum.attr.backprop.relevance_rules": "PropagationRule EpsilonRule GammaRule Alpha1_Beta0_Rule IdentityRule",
    },
    "captum.attr._utils.stat": {
        "captum.attr.averages.moments": "Stat Count Mean MSE Var StdDev GeneralAccumFn Min Max Sum CommonStats",
    },
    "captum.attr._utils.summarizer": {"captum.attr": "MSE Summarizer SummarizerSingleTensor"},
    "captum.attr._utils.visualization": {
        "captum.attr.visualization": "HAS_IPYTHON draw_mask_border draw_mask_legend ImageVisualizationMethod "
        "TimeseriesVisualizationMethod VisualizeSign visualize_image_attr visualize_image_attr_multiple "
        "visualize_timeseries_attr VisualizationDataRecord format_classname format_special_tokens format_tooltip "
        "format_word_importances visualize_text",
        "IPython.display": "HTML",
    },
    "captum.attr._core.dataloader_attr": {
        "captum.attr": "DataLoaderAttribution",
        "captum.attr.averages.dataloader": "InputRole SUPPORTED_METHODS",
    },
    "captum.attr._core.deep_lift": {"captum.attr": "DeepLift DeepLiftShap"},
    "captum.attr._core.feature_ablation": {"captum.attr": "FeatureAblation"},
    "captum.attr._core.feature_permutation": {
        "captum.attr": "FeaturePermutation",
        "captum.attr.games.permutation": "_permute_feature",
    },
    "captum.attr._core.gradient_shap": {
        "captum.attr": "GradientShap",
        "captum.attr.paths.input_baseline": "InputBaselineXGradient",
    },
    "captum.attr._core.guided_backprop_deconvnet": {
        "captum.attr": "GuidedBackprop Deconvolution",
        "captum.attr.backprop.guided": "ModifiedReluGradientAttribution",
    },
    "captum.attr._core.guided_grad_cam": {"captum.attr": "GuidedGradCam"},
    "captum.attr._core.input_x_gradient": {"captum.attr": "InputXGradient"},
    "captum.attr._core.integrated_gradients": {"captum.attr": "IntegratedGradients"},
    "captum.attr._core.kernel_shap": {"captum.attr": "KernelShap"},
    "captum.attr._core.layer.grad_cam": {"captum.attr": "LayerGradCam"},
    "captum.attr._core.layer.internal_influence": {"captum.attr": "InternalInfluence"},
    "captum.attr._core.layer.layer_activation": {"captum.attr": "LayerActivation"},
    "captum.attr._core.layer.layer_conductance": {"captum.attr": "LayerConductance"},
    "captum.attr._core.layer.layer_deep_lift": {"captum.attr": "LayerDeepLift LayerDeepLiftShap"},
    "captum.attr._core.layer.layer_feature_ablation": {"captum.attr": "LayerFeatureAblation"},
    "captum.attr._core.layer.layer_feature_permutation": {"captum.attr": "LayerFeaturePermutation"},
    "captum.attr._core.layer.layer_gradient_shap": {
        "captum.attr": "LayerGradientShap",
        "captum.attr.paths.input_baseline": "LayerInputBaselineXGradient",
    },
    "captum.attr._core.layer.layer_gradient_x_activation": {"captum.attr": "LayerGradientXActivation"},
    "captum.attr._core.layer.layer_integrated_gradients": {"captum.attr": "LayerIntegratedGradients"},
    "captum.attr._core.layer.layer_lrp": {"captum.attr": "LayerLRP"},
    "captum.attr._core.lime": {
        "captum.attr": "LimeBase Lime",
        _FORMS: "construct_feature_mask",
        "captum.attr.games.lime": "default_from_interp_rep_transform get_exp_kernel_similarity_function "
        "default_perturb_func",
    },
    "captum.attr._core.llm_attr": {
        "captum.attr": "LLMAttributionResult LLMAttribution LLMGradientAttribution RemoteLLMAttribution",
        "captum.attr.text.llm": "DEFAULT_GEN_ARGS BaseLLMAttribution",
        "captum.attr.text.llm_gradient": "GradientForwardFunc",
    },
    "captum.attr._core.lrp": {
        "captum.attr": "LRP",
        "captum.attr.backprop.lrp": "SUPPORTED_LAYERS_WITH_RULES SUPPORTED_NON_LINEAR_LAYERS",
    },
    "captum.attr._core.neuron.neuron_conductance": {"captum.attr": "NeuronConductance"},
    "captum.attr._core.neuron.neuron_deep_lift": {"captum.attr": "NeuronDeepLift NeuronDeepLiftShap"},
    "captum.attr._core.neuron.neuron_feature_ablation": {"captum.attr": "NeuronFeatureAblation"},
    "captum.attr._core.neuron.neuron_gradient": {"captum.attr": "NeuronGradient"},
    "captum.attr._core.neuron.neuron_gradient_shap": {"captum.attr": "NeuronGradientShap"},
    "captum.attr._core.neuron.neuron_guided_backprop_deconvnet": {
        "captum.attr": "NeuronGuidedBackprop NeuronDeconvolution",
    },
    "captum.attr._core.neuron.neuron_integrated_gradients": {"captum.attr": "NeuronIntegratedGradients"},
    "captum.attr._core.noise_tunnel": {
        "captum.attr.averages.noise_tunnel": "NoiseTunnelType SUPPORTED_NOISE_TUNNEL_TYPES NoiseTunnel",
    },
    "captum.attr._core.occlusion": {"captum.attr": "Occlusion"},
    "captum.attr._core.remote_provider": {"captum.attr": "RemoteLLMProvider VLLMProvider"},
    "captum.attr._core.saliency": {"captum.attr": "Saliency"},
    "captum.attr._core.shapley_value": {"captum.attr": "ShapleyValueSampling ShapleyValues"},
    "captum.concept._core.cav": {"captum.concept": "CAV"},
    "captum.concept._core.concept": {"captum.concept": "Concept ConceptInterpreter"},
    "captum.concept._core.tcav": {
        "captum.concept": "CAV TCAV",
        "captum.influence.activations": "AV",
        "captum.concept.tcav": "LabelledDataset train_cav",
    },
    "captum.concept._utils.classifier": {
        "captum.concept": "Classifier",
        "captum.concept.classifier": "DefaultClassifier",
    },
    "captum.concept._utils.common": {"captum.concept.concept": "concepts_to_str"},
    "captum.concept._utils.data_iterator": {"captum.concept.data": "CustomIterableDataset dataset_to_dataloader"},
    "captum.influence._core.arnoldi_influence_function": {"captum.influence.arnoldi": "ArnoldiInfluenceFunction"},
    "captum.influence._core.influence": {"captum.influence": "DataInfluence"},
    "captum.influence._core.influence_function": {
        "captum.influence": "NaiveInfluenceFunction",
        "captum.influence.influence_function": "InfluenceFunctionBase IntermediateQuantitiesInfluenceFunction",
    },
    "captum.influence._core.similarity_influence": {
        "captum.influence": "SimilarityInfluence",
        "captum.influence.activations": "AV",
        "captum.influence.similarity": "euclidean_distance cosine_similarity",
    },
    "captum.influence._core.tracincp": {
        "captum.influence": "TracInCPBase TracInCP",
        "captum.influence.activations": "AV",
    },
    "captum.influence._core.tracincp_fast_rand_proj": {"captum.influence": "TracInCPFast TracInCPFastRandProj"},
    "captum.influence._utils.common": {"captum.influence.results": "KMostInfluentialResults"},
    "captum.influence._utils.nearest_neighbors": {
        "captum.influence.neighbors": "NearestNeighbors AnnoyNearestNeighbors",
    },
    "captum.log.dummy_log": {
        "captum.log": "log TimedLog log_usage set_environment disable_detailed_logging patch_methods",
    },
    "captum.metrics._core.infidelity": {"captum.metrics": "infidelity_perturb_func_decorator infidelity"},
    "captum.metrics._core.sensitivity": {
        "captum.metrics": "sensitivity_max",
        "captum.metrics.sensitivity": "default_perturb_func",
    },
    "captum.metrics._utils.batching": {_BATCHING: "_divide_and_aggregate_metrics"},
    "captum.module.binary_concrete_stochastic_gates": {"captum.module": "BinaryConcreteStochasticGates"},
    "captum.module.gaussian_stochastic_gates": {"captum.module": "GaussianStochasticGates"},
    "captum.module.stochastic_gates_base": {"captum.module": "StochasticGatesBase"},
    "captum.robust._core.fgsm": {"captum.robust": "FGSM"},
    "captum.robust._core.metrics.attack_comparator": {
        "captum.robust": "AttackComparator",
        "captum.robust.comparator": "ORIGINAL_KEY MetricResultType AttackInfo agg_metric",
    },
    "captum.robust._core.metrics.min_param_perturbation": {
        "captum.robust": "MinParamPerturbation",
        "captum.robust.min_param": "drange default_correct_fn MinParamPerturbationMode",
    },
    "captum.robust._core.perturbation": {"captum.robust": "Perturbation"},
    "captum.robust._core.pgd": {"captum.robust": "PGD"},
}

_HOOKS = "rules live on operators here and are not module hooks; see docs/architecture.md"
_ABLATION = "it was an inner step of FeatureAblation with no counterpart here; call FeatureAblation itself"

# Old module -> names that have no counterpart here -> why.
NOT_SERVED: dict[str, dict[str, str]] = {
    "captum.attr._core.deep_lift": {
        "nonlinear softmax maxpool1d maxpool2d maxpool3d maxpool SUPPORTED_NON_LINEAR": _HOOKS,
    },
    "captum.attr._core.feature_ablation": {"process_initial_eval format_result check_output_shape_valid": _ABLATION},
    "captum._utils.common": {"_register_backward_hook": "nothing is hung on modules here; use torch's own hooks"},
}


def names(module: str) -> dict[str, tuple[str, str]]:
    """Old name → (home module, name there) of one old module."""
    found: dict[str, tuple[str, str]] = {}
    for place, listed in TABLE.get(module, {}).items():
        for entry in listed.split():
            old, _, new = entry.partition("=")
            found[old] = (place, new or old)
    return found


def home(module: str, name: str) -> object:
    """The object that ``module`` has under ``name``.

    Args:
        module: an old module path.
        name: a name in it.

    Returns:
        The object, from its home here.

    Raises:
        ImportError: the table names it, but there is no home for it.
        AttributeError: the table does not name it.
    """
    if name not in names(module):
        reasons = {n: why for listed, why in NOT_SERVED.get(module, {}).items() for n in listed.split()}
        if name in reasons:
            raise ImportError(f"{module}.{name} is not part of this release: {reasons[name]}", name=module)  # noqa: EM102
        message = f"module {module!r} has no attribute {name!r}"
        raise AttributeError(message, name=name)
    place, new = names(module)[name]
    try:
        room = import_module(place)
    except ImportError as fault:
        raise ImportError(f"{module}.{name} is not available: {fault}", name=module) from fault  # noqa: EM102
    for candidate in (new, new.lstrip("_")):
        if hasattr(room, candidate):
            return getattr(room, candidate)
    raise ImportError(f"{module}.{name} is not available: {place} has no {new.lstrip('_')!r}", name=module)  # noqa: EM102


def _children(module: str) -> set[str]:
    """The old modules directly below an old module."""
    depth = module.count(".") + 1
    return {path.split(".")[depth] for path in TABLE if path.startswith(f"{module}.")}


class _LegacyModule(ModuleType):
    """An old module; its names are looked up on first use."""

    def __getattr__(self, name: str) -> object:
        if name in _children(self.__name__):
            return import_module(f"{self.__name__}.{name}")
        value = home(self.__name__, name)
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *names(self.__name__), *_children(self.__name__)})


class _LegacyLoader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _LegacyModule(spec.name, "Names of an earlier release; see captum._legacy.")

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run: names are looked up on first use."""


class LegacyFinder(MetaPathFinder):
    """Finds the modules of the table, and the packages above them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of an old module; ``None`` for every other."""
        del path, target
        if not fullname.startswith("captum."):
            return None
        package = bool(_children(fullname))
        old = fullname in TABLE or (package and fullname.rpartition(".")[2].startswith("_")) or "._" in fullname
        if not old or not (fullname in TABLE or package):
            return None
        return ModuleSpec(fullname, _LegacyLoader(), origin="captum._legacy", is_package=package)


def install() -> None:
    """Serve old modules from now on; does nothing the second time."""
    if not any(isinstance(finder, LegacyFinder) for finder in sys.meta_path):
        sys.meta_path.append(LegacyFinder())
