"""What is stored is found again, and only for the same model, examples and classifier; files run no code."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch

from captum.concept import CAV, TCAV, Concept
from captum.concept.activations import Stored, record_of, stored
from captum.errors import CaptumWarning, InputError, InputTypeError
from tests.unit.concept.examples import HIDDEN, INPUTS, Batches, Means, Net, batches, files, three


def tcav_of(place, net=None, classifier=None, layers=("lin", "relu"), **kwargs):
    return TCAV(net or Net(), list(layers), classifier=classifier or Means(), save_path=str(place), **kwargs)


def test_examples_are_read_once_whatever_the_number_of_sets(tmp_path):
    a, b, c = three()
    tcav = tcav_of(tmp_path)
    tcav.compute_cavs([[a, b], [b, c], [a, c], [a, b, c]])
    assert [concept.data_iter.reads for concept in (a, b, c)] == [3, 3, 3]
    assert tcav.model.calls == 9
    first = tcav.interpret(INPUTS, [[a, b], [a, c]], target=0)
    assert tcav.model.calls == 9 + 2  # a pass for each layer
    assert tcav.classifier.trained == 8
    torch.testing.assert_close(tcav.interpret(INPUTS, [[a, b], [a, c]], target=0), first)
    assert [concept.data_iter.reads for concept in (a, b, c)] == [3, 3, 3]


def test_files_lie_where_they_are_looked_for(tmp_path):
    a, b, _ = three()
    tcav_of(tmp_path, layers=["lin"]).compute_cavs([[a, b]])
    names = ["0.pt", "1.pt", "2.pt", "record.json"]
    inside = [f"av/default_model_id/{i}/lin/{name}" for i in ("a-0", "b-1") for name in names]
    assert files(tmp_path) == [*inside, "default_model_id/0-1-lin.pkl"]
    values = torch.load(tmp_path / "av/default_model_id/a-0/lin/2.pt", weights_only=True)
    expected = a.data_iter.batches[2] @ HIDDEN.T + torch.tensor([0.1, -0.2, 0.3, 0])
    torch.testing.assert_close(values, expected)
    assert values.untyped_storage().nbytes() == values.nbytes


def test_a_new_object_finds_what_another_stored(tmp_path):
    a, b, _ = three()
    first = tcav_of(tmp_path).interpret(INPUTS, [[a, b]], target=0)
    later = tcav_of(tmp_path)
    shuffled = [torch.cat(concept.data_iter.batches).flip(0).split(7) for concept in (a, b)]
    again = [Concept(i, "ab"[i], Batches(list(x))) for i, x in enumerate(shuffled)]
    torch.testing.assert_close(later.interpret(INPUTS, [again], target=0), first)
    assert later.classifier.trained == 0
    assert later.model.calls == 2  # for the inputs alone
    assert [concept.data_iter.reads for concept in again] == [3, 3]
    third = tcav_of(tmp_path)
    assert third.load_cavs([a, b]) == ([], {})
    assert set(third.cavs["0-1"]) == {"lin", "relu"}
    assert third.cavs["0-1"]["lin"].concepts == [a, b]


def test_activations_are_found_for_other_sets(tmp_path):
    a, b, c = three()
    tcav_of(tmp_path).compute_cavs([[a, b]])
    later = tcav_of(tmp_path)
    assert later.load_cavs([b, c]) == (["lin", "relu"], {b: ["lin", "relu"], c: ["lin", "relu"]})
    later.compute_cavs([[b, c]])
    assert later.model.calls == 3
    assert later.classifier.trained == 2


def change_weights(net, concepts):
    with torch.no_grad():
        net.lin.weight[0, 0] += 1


def change_mode(net, concepts):
    net.eval()


def change_examples(net, concepts):
    concepts[1].data_iter = Batches(batches(0.3))


@pytest.mark.parametrize("change", [change_weights, change_mode, change_examples])
def test_what_changed_is_made_anew(tmp_path, change):
    net, (a, b, _) = Net(), three()
    tcav = tcav_of(tmp_path, net)
    tcav.interpret(INPUTS, [[a, b]], target=0)
    change(net, [a, b])
    here = tcav.interpret(INPUTS, [[a, b]], target=0)
    assert tcav.classifier.trained == 4
    torch.testing.assert_close(tcav_of(tmp_path / "fresh", net).interpret(INPUTS, [[a, b]], target=0), here)
    later = tcav_of(tmp_path, net)
    torch.testing.assert_close(later.interpret(INPUTS, [[a, b]], target=0), here)
    assert later.classifier.trained == 0


def test_a_change_is_seen_by_a_new_object(tmp_path):
    net, (a, b, _) = Net(), three()
    tcav_of(tmp_path, net).compute_cavs([[a, b]])
    other = Concept(1, "b", batches(0.3)[:2])
    later = tcav_of(tmp_path, net)
    later.compute_cavs([[a, other]])
    assert later.classifier.trained == 2
    assert len(stored(str(tmp_path), "default_model_id", other, "lin")) == 2  # no file of before is left


def test_other_arguments_of_a_classifier_train_anew(tmp_path):
    a, b, _ = three()
    tcav_of(tmp_path).compute_cavs([[a, b]])
    for times, options in ((2, {"strength": 1}), (2, {"strength": 2}), (0, {"strength": 2})):
        later = tcav_of(tmp_path, **options)
        later.compute_cavs([[a, b]])
        assert later.classifier.trained == times
        assert later.cavs["0-1"]["lin"].stats["options"] == ["strength"]


def test_the_side_of_layers_counts(tmp_path):
    a, b, _ = three()
    tcav_of(tmp_path, layers=["lin"]).compute_cavs([[a, b]])
    at_input = tcav_of(tmp_path, layers=["lin"], attribute_to_layer_input=True).compute_cavs([[a, b]])
    assert at_input["0-1"]["lin"].stats["weights"].shape == (2, 3)


def test_forced_training_sees_examples_changed_in_place(tmp_path):
    a, b, _ = three()
    tcav = tcav_of(tmp_path)
    before = tcav.compute_cavs([[a, b]])["0-1"]["lin"].stats["weights"]
    tcav.compute_cavs([[a, b]], force_train=True)
    assert (tcav.classifier.trained, tcav.model.calls) == (4, 6)  # trained again on the same activations
    a.data_iter.batches[0] += 1
    after = tcav.compute_cavs([[a, b]], force_train=True)["0-1"]["lin"].stats["weights"]
    assert tcav.model.calls == 9
    assert not torch.equal(before, after)


def test_examples_that_can_be_read_once(tmp_path):
    a, b, c = three()
    tcav_of(tmp_path).compute_cavs([[a, b]])
    later = tcav_of(tmp_path)
    stream = Concept(0, "a", (x for x in a.data_iter.batches))
    later.compute_cavs([[stream, b]])
    assert later.classifier.trained == 0  # read while activations were made, and found to be the same
    later.compute_cavs([[stream, c]])
    assert later.classifier.trained == 2
    later.compute_cavs([[stream, c]], force_train=True)
    assert later.classifier.trained == 4
    later.model.eval()
    with pytest.raises(InputError, match="read before is empty"):
        later.compute_cavs([[stream, c]])


def test_concepts_without_examples_are_those_that_are_stored(tmp_path):
    a, b, c = three()
    expected = tcav_of(tmp_path).interpret(INPUTS, [[a, b]], target=0)
    bare = [Concept(0, "a", None), Concept(1, "b", None)]
    later = tcav_of(tmp_path)
    torch.testing.assert_close(later.interpret(INPUTS, [bare], target=0), expected)
    assert later.classifier.trained == 0
    later.compute_cavs([[bare[0], c]], force_train=True)  # trained on stored activations
    assert later.classifier.trained == 2
    later.model.eval()
    with pytest.raises(InputTypeError, match="data_iter"):
        later.compute_cavs([bare])


def test_activations_by_themselves(tmp_path):
    a, b, c = three()
    tcav = tcav_of(tmp_path)
    tcav.generate_activation("lin", a)
    tcav.generate_activations({b: ["relu", "lin"], c: []})
    tcav.generate_all_activations()  # of no concept so far
    assert [concept.data_iter.reads for concept in (a, b, c)] == [3, 3, 0]
    tcav.concepts.add(a)
    tcav.generate_all_activations()
    assert len(stored(str(tmp_path), "default_model_id", a, "relu")) == 3
    with pytest.raises(InputError, match="generate them first"):
        stored(str(tmp_path), "default_model_id", c, "relu")


def test_an_interrupted_pass_leaves_nothing_that_counts(tmp_path):
    a, b, _ = three()

    def broken():
        yield from a.data_iter.batches[:2]
        raise OSError("disk gone")

    tcav = tcav_of(tmp_path)
    with pytest.raises(OSError, match="disk gone"):
        tcav.compute_cavs([[Concept(0, "a", broken()), b]])
    assert record_of(str(tmp_path), "default_model_id", a, "lin") == {}
    (found,) = tcav.compute_cavs([[a, b]]).values()
    assert found["lin"].stats["rows"] == 40


def test_batches_are_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 2, 0):
        torch.save(torch.full((1, 1), float(number)), tmp_path / f"{number}.pt")
    assert [float(batch) for batch in (Stored(tmp_path)[i] for i in range(3))] == [0.0, 2.0, 10.0]


def test_names_do_not_leave_the_directory(tmp_path):
    place = tmp_path / "inside"
    concepts = [Concept(0, "../../out", batches(1.0)), Concept(1, "*[a]", batches(0.0))]
    tcav_of(place, layers=["lin"]).compute_cavs([concepts])
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
    assert tcav_of(place, layers=["lin"]).load_cavs(concepts) == ([], {})


def test_a_cav_comes_back_from_its_file(tmp_path):
    stats = {
        "weights": torch.ones(2, 3),
        "classes": np.array([0, 1], dtype=np.int32),
        "accs": np.float64(0.5),
        "n": (1, "x"),
    }
    cav = CAV([Concept(0, "a", []), Concept(1, "b", [])], "l.1", stats, str(tmp_path), "net")
    cav.save()
    found = CAV.load(str(tmp_path), "net", cav.concepts, "l.1")
    assert (found.save_path, found.model_id, found.layer) == (str(tmp_path), "net", "l.1")
    assert [(c.id, c.name, c.data_iter) for c in found.concepts] == [(0, "a", None), (1, "b", None)]
    assert torch.equal(found.stats.pop("weights"), stats["weights"])
    assert found.stats == {"classes": [0, 1], "accs": 0.5, "n": [1, "x"]}
    assert CAV.load(str(tmp_path), "other", cav.concepts, "l.1") is None
    CAV(cav.concepts, "l.2", None, str(tmp_path), "net").save()
    assert CAV.load(str(tmp_path), "net", cav.concepts, "l.2").stats is None


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.float32])
def test_files_of_earlier_releases(tmp_path, dtype):
    """They hold the classes as an array and have no fingerprint: they are loaded, but trained anew."""
    a, b, _ = three()
    (tmp_path / "default_model_id").mkdir()
    content = {"concept_ids": [0, 1], "concept_names": ["a", "b"], "layer": "lin"}
    content["stats"] = {"weights": torch.zeros(2, 4), "classes": np.array([0, 1], dtype), "accs": torch.tensor(0.5)}
    torch.save(content, tmp_path / "default_model_id" / "0-1-lin.pkl")
    found = CAV.load(str(tmp_path), "default_model_id", [a, b], "lin")
    assert found.stats["classes"].tolist() == [0, 1]
    assert found.fingerprint is None
    assert float(tcav_of(tmp_path).compute_cavs([[a, b]])["0-1"]["lin"].stats["weights"].abs().sum()) > 0


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a file was run')",))


@pytest.mark.parametrize(
    "content", [b"nonsense", pickle.dumps(Bomb()), "bomb", "other"], ids=["", "pickle", "bomb", "other"]
)
def test_files_that_are_no_cav(tmp_path, content):
    a, b, _ = three()
    place = tmp_path / "default_model_id" / "0-1-lin.pkl"
    place.parent.mkdir()
    if isinstance(content, bytes):
        place.write_bytes(content)
    else:
        torch.save(Bomb() if content == "bomb" else {"concept_ids": [7], "layer": "lin"}, place)
    with pytest.raises(InputError, match=r"0-1-lin\.pkl"):
        CAV.load(str(tmp_path), "default_model_id", [a, b], "lin")
    tcav_of(tmp_path).compute_cavs([[a, b]])  # it is written anew
    assert CAV.load(str(tmp_path), "default_model_id", [a, b], "lin").stats["rows"] == 40


def test_records_that_are_damaged_do_not_count(tmp_path):
    a, b, _ = three()
    tcav_of(tmp_path).compute_cavs([[a, b]])
    for text in ("{", json.dumps([1]), json.dumps({"model": "x"})):
        (tmp_path / "av/default_model_id/a-0/lin/record.json").write_text(text)
        later = tcav_of(tmp_path)
        later.generate_activation("lin", a)
        assert later.model.calls == 3


def test_statistics_that_no_file_can_hold_are_named(tmp_path):
    class Telling(Means):
        def train_and_eval(self, dataloader, **kwargs):
            return {**super().train_and_eval(dataloader), "self": self, "list": [1, object()], "map": {"a": 1}}

    a, b, _ = three()
    with pytest.warns(CaptumWarning, match=r"\['self', 'list'\]"):
        cavs = tcav_of(tmp_path, classifier=Telling(), layers=["lin"]).compute_cavs([[a, b]])
    assert isinstance(cavs["0-1"]["lin"].stats["self"], Telling)
    found = CAV.load(str(tmp_path), "default_model_id", [a, b], "lin")
    assert found.stats["map"] == {"a": 1}
    assert "self" not in found.stats
