// resize.js against Pillow itself, bit for bit, over random sizes.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { resizeFloat, resizeRgb } from "../../edge_runtime/serve/assets/model/resize.js";
import { PYTHON } from "./station.mjs";

const PILLOW = `
import base64, json, sys
import numpy as np
from PIL import Image
from sonoedge.edge_runtime.imaging.image import resize
rng = np.random.default_rng(7)
sizes = [(1, 1, 7, 5), (7, 5, 7, 5), (320, 240, 224, 224), (600, 20, 3, 224), (224, 100, 224, 224), (2, 3, 500, 400)]
sizes += [tuple(int(v) for v in rng.integers(1, 400, 4)) for _ in range(40)]
for height, width, to_height, to_width in sizes:
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    grid = rng.normal(size=(min(height, 20), min(width, 20))).astype(np.float32)
    large = np.asarray(Image.fromarray(grid).resize((to_width, to_height), Image.Resampling.BILINEAR))
    code = lambda array: base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    print(json.dumps({"from": [height, width], "to": [to_height, to_width], "grid": grid.shape, "rgb": code(image),
        "rgbOut": code(resize(image, (to_height, to_width))), "float": code(grid), "floatOut": code(large)}))
`;

test("resize.js equals Pillow in every bit", () => {
  const lines = execFileSync(PYTHON, ["-c", PILLOW], { encoding: "utf8", maxBuffer: 1 << 29 }).trim().split("\n");
  assert.ok(lines.length > 40);
  const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
  const floats = (text) => new Float32Array(bytes(text).buffer);
  for (const line of lines) {
    const sample = JSON.parse(line);
    const [height, width] = sample.from, [toHeight, toWidth] = sample.to;
    assert.ok(Buffer.from(resizeRgb(bytes(sample.rgb), width, height, toWidth, toHeight)).equals(
      Buffer.from(bytes(sample.rgbOut))), `${sample.from} -> ${sample.to}`);
    assert.deepEqual(resizeFloat(floats(sample.float), sample.grid[1], sample.grid[0], toWidth, toHeight), floats(sample.floatOut));
  }
});
