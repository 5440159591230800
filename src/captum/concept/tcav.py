"""TCAV: how much a model's score rests on concepts that a user names by examples."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captum._engine.entry import differentiable
from captum._engine.place import telling_rows
from captum._engine.values import Leaves, describe
from captum.attr.base import LayerAttribution
from captum.attr.gradients.activation import LayerGradientXActivation
from captum.concept.cav import CAV
from captum.concept.classifier import Classifier, DefaultClassifier
from captum.concept.concept import Concept, ConceptInterpreter, concepts_to_str
from captum.concept.library import Examples, Library
from captum.concept.training import LabelledDataset, Task, train_all, train_cav
from captum.errors import InputError, InputTypeError, LayerError
from captum.log import log_usage

__all__ = ["TCAV", "LabelledDataset", "train_cav"]

Sets = Sequence[Sequence[Concept]]


class TCAV(ConceptInterpreter):
    r"""Testing with concept activation vectors.

    A linear classifier tells the concepts of a set apart by the activations :math:`y` of a layer; its weights
    :math:`w_c` point to concept :math:`c`. Per input, :math:`s_c = \langle w_c, \partial F / \partial y \rangle` says
    whether more of the concept would raise the score :math:`F`. ``sign_count`` is the share of inputs with
    :math:`s_c > 0` and ``magnitude`` the mean of :math:`s_c`, whose scale is that of the classifier's weights.

    B. Kim, M. Wattenberg, J. Gilmer, C. Cai, J. Wexler, F. Viegas, R. Sayres, "Interpretability beyond feature
    attribution: quantitative testing with concept activation vectors (TCAV)", 2018, arXiv:1711.11279.

    Activations and CAVs are stored below ``save_path``. They are used again only for the same model and examples: what
    was stored is compared with hashes of the model's weights, modules and mode, of the examples, and of the
    classifier's type and arguments. A concept whose ``data_iter`` is the same object is not read again.

    Args:
        model: the model.
        layers: names of layers such as ``"features.3"``, or modules of the model; one or a list.
        model_id: name of the model, of the directory of its files.
        classifier: finds the CAVs (default :class:`DefaultClassifier`, which needs scikit-learn).
        layer_attr_method: attribution at a layer in the place of the gradient, such as
            ``LayerIntegratedGradients(model, None)``; its ``layer`` is set for each layer and put back.
        attribute_to_layer_input: whether to use the inputs of layers.
        save_path: directory of files; None for one that goes with this object.
        classifier_kwargs: arguments of the classifier's ``train_and_eval``, such as ``test_split_ratio`` and ``seed``.

    Raises:
        InputError: when ``model_id`` is empty.
        LayerError: when the model has no such layer.

    Example:
        >>> model = nn.Sequential(nn.Identity(), nn.Linear(2, 1))  # the score grows along w
        >>> w = model[1].weight.detach()
        >>> sets = [[Concept(i, str(i), [torch.randn(40, 2) + shift * w]) for i, shift in enumerate((9, -9))]]
        >>> tcav = TCAV(model, "0", save_path=None, seed=0)
        >>> tcav.interpret(torch.randn(9, 2), sets, target=0)["0-1"]["0"]["sign_count"]
        tensor([1., 0.])
    """

    def __init__(
        self,
        model: nn.Module,
        layers: str | nn.Module | Sequence[str | nn.Module],
        model_id: str = "default_model_id",
        classifier: Classifier | None = None,
        layer_attr_method: LayerAttribution | None = None,
        attribute_to_layer_input: bool = False,
        save_path: str | None = "./cav/",
        **classifier_kwargs: Any,
    ) -> None:
        if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]  # users pass functions
            message = f"Expected a model whose layers have names, an nn.Module, got {describe(model)}."
            raise InputTypeError(message)
        if not model_id:
            message = f"Expected a name as model_id, got {model_id!r}: name the model, or leave model_id out."
            raise InputError(message)
        super().__init__(model)
        several = [layers] if isinstance(layers, (str, nn.Module)) else layers
        self.layers = [_name_of(layer, model) for layer in several]
        self.model_id = model_id
        self.classifier = DefaultClassifier() if classifier is None else classifier
        self.classifier_kwargs = classifier_kwargs
        self.layer_attr_method: Any = layer_attr_method
        if layer_attr_method is None:
            self.layer_attr_method = LayerGradientXActivation(model, None, multiply_by_inputs=False)
        self.attribute_to_layer_input = attribute_to_layer_input
        self.save_path = tempfile.mkdtemp(prefix="captum-cav-") if save_path is None else save_path
        if save_path is None:
            weakref.finalize(self, shutil.rmtree, self.save_path, ignore_errors=True)
        self.concepts: set[Concept] = set()
        self.cavs: dict[str, dict[str, CAV]] = {}
        self._examples = Examples()
        CAV.create_cav_dir_if_missing(self.save_path, model_id)

    def compute_cavs(
        self, experimental_sets: Sets, force_train: bool = False, processes: int | None = None
    ) -> dict[str, dict[str, CAV]]:
        """Concept activation vectors of every set at every layer, trained where they are not stored.

        Args:
            experimental_sets: lists of concepts that are told apart, such as ``[[striped, random]]``.
            force_train: whether to read the examples again and to train also where a CAV is stored.
            processes: number of processes that train; None (default) trains in this one. Sets are trained apart then,
                each with a seed drawn from Python's ``random``, so that results do not depend on the number.

        Returns:
            CAVs by the ids of a set joined by ``"-"``, and by the name of the layer.

        Raises:
            InputError: when two concepts have one id, or a concept has no examples.
        """
        sets = self._parse_sets(experimental_sets)
        if processes is not None and (isinstance(processes, bool) or processes < 1):
            message = f"Expected processes as a whole number of at least 1, or None, got {processes!r}."
            raise InputError(message)
        library = self._library()
        if force_train:
            self._examples.forget(concept for concepts in sets.values() for concept in concepts)
        missing = {key: self._missing(library, c, force_train) for key, c in sets.items()}
        needed: dict[Concept, list[str]] = {}
        for key, layers in missing.items():
            for concept in sets[key]:
                needed.setdefault(concept, []).extend(layers)
        for concept, layers in needed.items():
            library.require_activations(concept, layers)
        if not force_train:  # examples that can be read once are known only now
            missing = {key: layers and self._missing(library, sets[key], False) for key, layers in missing.items()}
        tasks = [self._task(sets[key], layers) for key, layers in missing.items() if layers]
        for found in train_all(tasks, processes):
            for key, cavs in found.items():
                self.cavs.setdefault(key, {}).update(cavs)
        self.concepts.update(concept for concepts in sets.values() for concept in concepts)
        return {key: {layer: self.cavs[key][layer] for layer in self.layers} for key in sets}

    def load_cavs(self, concepts: Sequence[Concept]) -> tuple[list[str], dict[Concept, list[str]]]:
        """Find the CAVs of a set that are stored and can be used; they are kept in ``cavs``.

        Args:
            concepts: the concepts of a set.

        Returns:
            The layers that need training, and for each concept the layers whose activations that takes.
        """
        layers = self._missing(self._library(), list(concepts), False)
        return layers, {concept: list(layers) for concept in concepts} if layers else {}

    def generate_activation(self, layers: str | Sequence[str], concept: Concept) -> None:
        """Store the activations of a concept at layers, where they are not stored.

        Args:
            layers: names of layers, or one name.
            concept: the concept.

        Raises:
            InputError: when the concept has no examples.
            LayerError: when the model has no such layer, or does not reach it.
        """
        self.generate_activations({concept: [layers] if isinstance(layers, str) else list(layers)})

    def generate_activations(self, concept_layers: Mapping[Concept, Sequence[str]]) -> None:
        """Store the activations of concepts at layers, where they are not stored.

        Args:
            concept_layers: names of layers by concept.
        """
        library = self._library()
        for concept, layers in concept_layers.items():
            library.require_activations(concept, [_name_of(layer, self.model) for layer in layers])

    def generate_all_activations(self) -> None:
        """Store the activations of all concepts of ``concepts`` at all layers, where they are not stored."""
        self.generate_activations(dict.fromkeys(sorted(self.concepts, key=lambda c: c.id), self.layers))

    @log_usage()
    @differentiable
    def interpret(
        self,
        inputs: Any,
        experimental_sets: Sets,
        target: Any = None,
        additional_forward_args: Any = None,
        processes: int | None = None,
        **kwargs: Any,
    ) -> dict[str, dict[str, dict[str, Tensor]]]:
        """Scores of concepts for these inputs.

        Args:
            inputs: tensor ``(N, *)``, tuple, dict or dataclass: examples of the class that is explained.
            experimental_sets: lists of concepts that are told apart, such as ``[[striped, random]]``.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            processes: number of processes that train, see :meth:`compute_cavs`.
            kwargs: further arguments of the layer attribution, such as ``n_steps``.

        Returns:
            By the ids of a set joined by ``"-"`` and by the name of the layer: ``sign_count`` and ``magnitude``,
            ``(n_concepts,)`` each, in the order of the concepts in the set.

        Raises:
            InputError: when two concepts have one id, or activations of inputs and examples differ in size.
        """
        if "attribute_to_layer_input" in kwargs:
            message = (
                "Pass attribute_to_layer_input to the constructor of TCAV: CAVs are trained on that side of layers."
            )
            raise InputError(message)
        cavs = self.compute_cavs(experimental_sets, processes=processes)
        scores: dict[str, dict[str, dict[str, Tensor]]] = {key: {} for key in cavs}
        for layer in self.layers if cavs else ():
            attributions = self._attributions(
                layer, inputs, target=target, additional_forward_args=additional_forward_args, **kwargs
            )
            for key, found in cavs.items():
                scores[key][layer] = _scores(attributions, found[layer])
        return scores

    def _attributions(self, layer: str, inputs: Any, **kwargs: Any) -> Tensor:
        """The attributions at a layer, ``(N, F)``."""
        method = self.layer_attr_method
        with _layer_set(method, self.model.get_submodule(layer)), telling_rows():
            result: object = method.attribute(inputs, attribute_to_layer_input=self.attribute_to_layer_input, **kwargs)
            dims: tuple[int, ...] = getattr(method, "batch_dims", ())
        leaves = Leaves([], [])
        leaves.gather(result, "attributions")
        dims = dims if len(dims) == len(leaves.tensors) else (0,) * len(leaves.tensors)
        return torch.cat([t.detach().movedim(d, 0).flatten(1) for t, d in zip(leaves.tensors, dims, strict=True)], 1)

    def _library(self) -> Library:
        side = "input" if self.attribute_to_layer_input else "output"
        return Library(self.model, self.model_id, self.save_path, side, self._examples)

    def _task(self, concepts: list[Concept], layers: list[str]) -> Task:
        return Task(self.model_id, concepts, layers, self.classifier, self.save_path, self.classifier_kwargs)

    def _missing(self, library: Library, concepts: list[Concept], every: bool) -> list[str]:
        """The layers at which a set has no CAV that can be used; what is found in files is kept."""
        if every:
            return list(self.layers)
        key = concepts_to_str(concepts)
        training = (self.classifier, self.classifier_kwargs)
        found = {n: library.find_cav(self.cavs.get(key, {}).get(n), concepts, n, training) for n in self.layers}
        usable = {n: cav for n, cav in found.items() if cav is not None}
        if usable or key in self.cavs:
            self.cavs[key] = usable
        return [n for n in found if n not in usable]

    def _parse_sets(self, sets: Sets) -> dict[str, list[Concept]]:
        """The sets by their keys; nothing of this object is changed."""
        parsed: dict[str, list[Concept]] = {}
        seen = {concept.id: concept for concept in self.concepts}
        for concepts in sets:
            if not _are_concepts(concepts):
                message = (
                    f"Expected experimental_sets as lists of Concepts, [[striped, random]], got {describe(concepts)}."
                )
                raise InputTypeError(message)
            numbers = [concept.id for concept in concepts]
            twice = [c.id for c in concepts if seen.setdefault(c.id, c) is not c or numbers.count(c.id) > 1]
            if twice or not concepts:
                message = (
                    f"There is more than one concept with id {twice[0]}: give each its own id, and pass the same "
                    "Concept object wherever it is meant."
                    if twice
                    else "Expected at least one concept in each of the experimental_sets, got none."
                )
                raise InputError(message)
            parsed[concepts_to_str(concepts)] = list(concepts)
        return parsed


def _are_concepts(values: object) -> bool:
    return isinstance(values, (list, tuple)) and all(isinstance(value, Concept) for value in values)


def _name_of(layer: str | nn.Module, model: nn.Module) -> str:
    """The name of a layer of the model."""
    if isinstance(layer, nn.Module):
        names = [name for name, module in model.named_modules() if module is layer]
        if not names:
            message = f"Expected a layer of the model, got {describe(layer)}, which is not a part of it."
            raise LayerError(message)
        return names[0]
    try:
        model.get_submodule(layer)
    except AttributeError as fault:
        message = f"The model has no layer {layer!r}: {fault}. Its layers: {[n for n, _ in model.named_children()]} …"
        raise LayerError(message) from None
    return layer


@contextlib.contextmanager
def _layer_set(method: Any, module: nn.Module) -> Generator[None]:
    """Let a method explain this layer, and put its own back."""
    before: object = getattr(method, "layer", None)
    method.layer = module
    try:
        yield
    finally:
        method.layer = before


def _scores(attributions: Tensor, cav: CAV) -> dict[str, Tensor]:
    """Sign counts and magnitudes ``(n_concepts,)`` of attributions ``(N, F)``, in the order of the set."""
    stats = cav.stats or {}
    order = [list(stats["classes"]).index(concept.id) for concept in cav.concepts]
    exact = torch.promote_types(attributions.dtype, torch.float32)
    weights = stats["weights"][order].to(attributions.device, exact)
    if weights.shape[1] != attributions.shape[1]:
        message = (
            f"The CAV at {cav.layer!r} has {weights.shape[1]} weights per concept, and attributions of the inputs have "
            f"{attributions.shape[1]} elements there: give inputs and examples of concepts one size."
        )
        raise InputError(message)
    scores = attributions.to(exact) @ weights.T
    means = {"sign_count": (scores > 0).to(exact).mean(0), "magnitude": scores.mean(0)}
    return {name: mean.to(attributions.dtype) for name, mean in means.items()}
