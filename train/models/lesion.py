"""Maps that look at the lesion: a finer grid, and a weight for every position that says how much lesion is there.

The last map is stretched to the grid of an earlier layer and joined with it, as in a feature pyramid (Lin et al.,
CVPR 2017). A 1 x 1 convolution predicts the lesion at every position; masks can teach it. Its sigmoid, divided by
its mean over the picture, multiplies the maps. The mean over positions that follows is then a mean weighted by the
lesion: the classifier sees what lies in it and at its rim, and little of the rest.

The weighted maps are the last maps of the network, and the head is a plain one on their mean. So Grad-CAM on them
is exact in closed form, as for any other backbone here, and it shows what the classifier used: a position without
lesion contributes little to the logit, and is dark for that reason.
"""

from __future__ import annotations

from typing import Any

import keras

LESION = "lesion"
"""Layer with the lesion's logit at every position, (N, h, w, 1)."""
WIDTH = 128
_SOFTENING = 0.02
"""Added to every weight: a picture without a lesion is seen as a whole."""


def with_lesion(backbone: keras.Model, finer: str) -> keras.Model:
    """A backbone with weighted maps in place of its last ones: its input -> (N, h, w, `WIDTH`), all at least 0.

    Args:
        backbone: its input -> its last map.
        finer: its layer with the finer grid.
    """
    last, middle = backbone.output, backbone.get_layer(finer).output
    height, width = middle.shape[1:3]
    top = keras.layers.Conv2D(WIDTH, 1, name="top")(last)
    top = keras.layers.Resizing(height, width, interpolation="bilinear", name="stretched")(top)
    lateral = keras.layers.Conv2D(WIDTH, 1, use_bias=False, name="lateral")(middle)
    joined = keras.layers.ReLU(6.0, name="joined")(keras.layers.Add(name="merged")([top, lateral]))
    logit = keras.layers.Conv2D(1, 1, name=LESION)(joined)
    weight = keras.layers.Activation("sigmoid", name="lesion_share")(logit)
    weight = keras.layers.Rescaling(1.0, _SOFTENING, name="softened")(weight)
    mean = keras.layers.GlobalAveragePooling2D(keepdims=True, name="lesion_mean")(weight)
    return keras.Model(backbone.input, joined * (weight / mean), name=backbone.name)


def lesion_logits(backbone: keras.Model) -> Any | None:
    """The symbolic output (N, h, w, 1) of a backbone from `with_lesion`; None for any other."""
    names = [layer.name for layer in backbone.layers]
    return backbone.get_layer(LESION).output if LESION in names else None
