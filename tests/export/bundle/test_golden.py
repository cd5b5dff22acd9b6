"""Golden images, the reference they are held against, and the check of exported gradients."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from sonoedge.edge_runtime.errors import VerificationError
from sonoedge.edge_runtime.imaging.image import to_input
from sonoedge.export.bundle.golden import check_maps, golden_images, pack, reference, tolerances
from sonoedge.export.convert.splitting import split_model
from tests.helpers.models import small_model

SHAPES = [(264, 388, 3), (224, 224, 3), (96, 131, 3), (600, 800, 3), (308, 336, 3), (300, 181, 3)]
MEANS = [135.86, 151.97, 135.65, 121.86, 154.22, 106.79]
PIXELS = [
    [239, 255, 228, 201, 103, 118, 186, 143, 177, 160, 41, 161, 142, 211, 119, 158],
    [243, 248, 255, 255, 207, 144, 192, 174, 194, 67, 188, 197, 174, 84, 107, 158],
    [223, 227, 236, 230, 115, 121, 117, 127, 159, 198, 61, 53, 108, 144, 66, 130],
    [159, 215, 218, 211, 103, 178, 133, 105, 156, 222, 42, 165, 145, 72, 96, 179],
    [175, 255, 255, 244, 123, 144, 210, 224, 183, 173, 110, 188, 116, 148, 158, 129],
    [255, 255, 255, 250, 184, 53, 160, 139, 66, 237, 66, 70, 62, 57, 67, 50],
]
"""16 pixels of each image, on a grid."""


def test_golden_images_never_change() -> None:
    """Pinned to values, not to a digest: another processor or SciPy may round a pixel the other way."""
    images = golden_images()
    assert [(image.shape, image.dtype) for image in images] == [(shape, np.uint8) for shape in SHAPES]
    np.testing.assert_allclose([image.mean() for image in images], MEANS, atol=0.02)
    found = [image[:: image.shape[0] // 4, :: image.shape[1] // 4, 0][:4, :4].ravel() for image in images]
    np.testing.assert_allclose(np.array(found, float), PIXELS, atol=1)


@pytest.mark.parametrize("grids", [(2, 2), (2, 1)])
def test_reference_is_the_derivative_by_finite_differences(grids: tuple[int, ...]) -> None:
    keras.utils.set_random_seed(2)
    model = split_model(small_model(lambda x: keras.layers.Dense(1)(keras.layers.Dense(6, "tanh")(x)), grids=grids))
    picture = golden_images()[0]
    logits, cams = reference(model, [picture])
    maps = {k: np.asarray(v) for k, v in model.backbone(to_input(picture, model.input_size)).items()}
    names = [b.name for b in model.head.branches]

    def logit(values: dict[str, np.ndarray]) -> float:
        return np.asarray(model.tail([values[name] for name in names]), np.float64).item()

    assert logits[0] == pytest.approx(logit(maps), rel=1e-5)
    parts = []
    for name in names:
        array, step = maps[name], 0.05
        alpha = []
        for channel in range(array.shape[3]):
            # All positions of a channel at once: the mean derivative over the positions is what Grad-CAM takes.
            up, down = array.copy(), array.copy()
            up[..., channel] += step
            down[..., channel] -= step
            difference = logit({**maps, name: up}) - logit({**maps, name: down})
            alpha.append(difference / (2 * step) / (array.shape[1] * array.shape[2]))
        parts.append((array[0] * np.array(alpha)).sum(axis=-1))
    if parts[0].shape == parts[1].shape:
        np.testing.assert_allclose(cams[0], parts[0] + parts[1], rtol=5e-3, atol=5e-3 * np.abs(cams).max())
    else:
        assert cams[0].shape == parts[1].shape


def test_check_maps_refuses_another_gradient() -> None:
    wanted = np.random.default_rng(0).normal(size=(3, 7, 7)).astype(np.float32)
    assert check_maps("a", "fp32", wanted, wanted) == 0.0
    with pytest.raises(VerificationError, match="Grad-CAM of a"):
        check_maps("a", "fp32", 1.01 * wanted, wanted)
    with pytest.raises(VerificationError, match="nan"):
        check_maps("a", "fp16", wanted * np.nan, wanted)
    assert check_maps("a", "w8a8", 1.5 * wanted, wanted) == pytest.approx(0.5)


def test_tolerances_of_integer_formats_start_from_what_was_measured() -> None:
    wanted = np.array([1.0, -2.0], np.float32)
    replay, distance, _ = tolerances("w8a8", wanted + 0.3, wanted)
    assert distance == pytest.approx(0.3 + replay)
    replay, distance, _ = tolerances("fp32", wanted + 0.3, wanted)
    assert distance == replay


@pytest.mark.parametrize(("error", "limit"), [(0.001, 0.06), (0.1, 0.2), (0.14, 0.28), (0.9, 0.3)])
def test_integer_replays_may_differ_by_twice_the_rounding_but_not_by_anything(error: float, limit: float) -> None:
    wanted = np.array([1.0, -2.0], np.float32)
    replay, _, _ = tolerances("w8a8", wanted + error, wanted)
    assert replay == pytest.approx(limit, rel=1e-4)


def test_pack_round_trip(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "x.npz"
    path.write_bytes(pack({"a": np.arange(3)}))
    with np.load(path) as archive:
        np.testing.assert_array_equal(archive["a"], [0, 1, 2])
