"""Files that are int8 from input to maps: the answers of float ends and of other kernels, or an honest refusal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from sonoedge.edge_runtime.backends import open_model
from sonoedge.edge_runtime.errors import AccuracyError, UsageError
from sonoedge.edge_runtime.model.classifier import preprocess_file
from sonoedge.export.bundle.golden import tolerances
from sonoedge.export.formats import FORMATS
from sonoedge.export.guard.comparison import Budget
from sonoedge.export.guard.int8 import Int8Policy
from sonoedge.export.guard.integers import checked_target
from sonoedge.export.quantize.recipes import Recipe, Rule
from sonoedge.export.targets.check import check_integers
from sonoedge.export.targets.table import TARGETS
from tests.helpers.int8_models import SIZE, Bench, bench, int8, outputs, two_branches

TARGET = TARGETS["int8-only"]
ANYTHING = Budget(1, 1)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("sound"), two_branches(None), images=24)


@pytest.fixture(scope="module")
def files(sound: Bench, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The file with int8 ends, and the same recipe with float32 ends."""
    folder = tmp_path_factory.mktemp("files")
    policy = Int8Policy(ANYTHING, validation=sound.evaluator.dataset, target=TARGET)
    choice = int8(sound, policy, folder / "integer")
    assert (choice.dtype, choice.target["name"]) == ("int8", "int8-only")
    float_ends = int8(sound, replace(policy, recipe=choice.recipe, target=TARGETS["cpu"]), folder / "float")
    assert (float_ends.dtype, float_ends.target) == ("float32", None)
    return {name: folder / name / "backbone.tflite" for name in ("integer", "float")}


def _logits(place: Bench, maps: list[dict[str, np.ndarray]]) -> np.ndarray:
    head = open_model(place.folder / "head.tflite", "tflite", threads=1)
    return np.array([head.run(one)["logit"].item() for one in maps], np.float32)


def test_int8_ends_change_nothing(files: dict[str, Path], sound: Bench) -> None:
    """Published suites lost half of their AUC at this place: the input must be image - 128, exactly."""
    check_integers(files["integer"].read_bytes())
    assert open_model(files["integer"], "tflite").dtypes == ("int8", "int8")
    assert open_model(files["float"], "tflite").dtypes == ("float32", "float32")
    pairs = zip(outputs(files["integer"], "tflite", sound), outputs(files["float"], "tflite", sound), strict=True)
    for given, wanted in pairs:
        for branch in ("left", "right"):
            np.testing.assert_array_equal(given[branch], wanted[branch])


def test_two_implementations_agree(files: dict[str, Path], sound: Bench) -> None:
    """XNNPACK's kernels and LiteRT's reference ones: the same decisions, logits within a bundle's tolerance."""
    fast = _logits(sound, outputs(files["integer"], "tflite", sound))
    reference = Interpreter(
        model_path=str(files["integer"]), experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    reference.allocate_tensors()
    runner = reference.get_signature_runner()
    ends = {name: detail["quantization"] for name, detail in runner.get_output_details().items()}
    maps = []
    for sample in sound.evaluator.dataset.samples:
        stored = (preprocess_file(sample.path, (SIZE, SIZE)) - 128).astype(np.int8)
        found = runner(image=stored)
        maps.append({
            name: ((value.astype(np.float32) - ends[name][1]) * np.float32(ends[name][0]))
            for name, value in found.items()
        })  # fmt: skip
    slow = _logits(sound, maps)
    exact = _logits(sound, outputs(sound.evaluator.float_path, "tflite", sound))
    assert np.abs(fast - slow).max() <= tolerances("w8a8", fast, exact)[0]
    # As training does, in a wide gap: the threshold of this bench is an image's own logit.
    middle = np.sort(exact)[len(exact) // 4 : -len(exact) // 4]
    widest = int(np.argmax(np.diff(middle)))
    threshold = middle[widest : widest + 2].mean()
    assert ((fast >= threshold) == (slow >= threshold)).all()


@pytest.mark.slow
def test_without_float_there_is_no_remedy_and_the_table_says_so(broken: Bench, tmp_path: Path) -> None:
    policy = Int8Policy(Budget(0, 0), validation=broken.evaluator.dataset, target=TARGET)
    with pytest.raises(AccuracyError, match="int8-only takes no float operators") as refused:
        int8(broken, policy, tmp_path / "out")
    assert "w8a8, " in str(refused.value) and "mixed" not in str(refused.value)
    assert "--allow-drop" in str(refused.value) and "-fp16" not in str(refused.value)
    assert not (tmp_path / "out" / "backbone.tflite").exists()


def test_options_that_contradict_the_target(sound: Bench, tmp_path: Path) -> None:
    recipe = Recipe(rules=(Rule("left_stem"),))
    policy = Int8Policy(ANYTHING, recipe=recipe, validation=sound.evaluator.dataset, target=TARGET)
    with pytest.raises(UsageError, match="takes w8a8 operators only; the recipe has float"):
        int8(sound, policy, tmp_path / "out")
    rows = (FORMATS["tflite-int8"],)
    assert checked_target("cpu", (FORMATS["openvino-int8"],), "mixed", float16_weights=True) is TARGETS["cpu"]
    assert checked_target("int8-only", rows, "w8a8", float16_weights=False) is TARGET
    for wrong in (("mixed", False), ("w8a16", False), ("guard", True)):
        with pytest.raises(UsageError, match="takes no float and no 16-bit operators"):
            checked_target("int8-only", rows, wrong[0], float16_weights=wrong[1])
    for formats in ((FORMATS["tflite-fp32"],), (*rows, FORMATS["openvino-int8"])):
        with pytest.raises(UsageError, match="needs the format tflite-int8, and no other int8 format"):
            checked_target("int8-only", formats, "guard", float16_weights=False)
