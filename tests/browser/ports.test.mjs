// region.js and smoothing.js against Python itself.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { overTime } from "../../edge_runtime/serve/assets/model/assess.js";
import { detectRegion } from "../../edge_runtime/serve/assets/model/region.js";
import { Smoother } from "../../edge_runtime/serve/assets/model/smoothing.js";
import { PYTHON } from "./station.mjs";

const python = (code) => execFileSync(PYTHON, ["-c", code], { encoding: "utf8", maxBuffer: 1 << 29 }).trim().split("\n").map((line) => JSON.parse(line));

test("region.js finds the scan area that Python finds", () => {
  const samples = python(`
import base64, json
import numpy as np
from sonoedge.edge_runtime.imaging.region import detect_region
rng = np.random.default_rng(11)
for number in range(60):
    height, width = (int(v) for v in rng.integers(20, 420, 2))
    screen = rng.integers(0, 10 if number % 5 else 14, (height, width, 3)).astype(np.uint8)
    for _ in range(number % 4):
        top, left = int(rng.integers(0, height // 2)), int(rng.integers(0, width // 2))
        box = screen[top : top + int(rng.integers(height // 3, height)), left : left + int(rng.integers(width // 3, width))]
        box[...] = np.where(rng.random(box.shape[:2] + (1,)) < rng.uniform(0.25, 1), 90, box)
    region = detect_region(screen)
    box = [region.left, region.top, region.right, region.bottom] if region else None
    print(json.dumps({"size": [width, height], "rgb": base64.b64encode(screen.tobytes()).decode(), "box": box}))
`);
  assert.ok(samples.filter(({ box }) => box).length > 15);
  assert.ok(samples.filter(({ box }) => !box).length > 5);
  for (const { size: [width, height], rgb, box } of samples) {
    assert.deepEqual(detectRegion(new Uint8Array(Buffer.from(rgb, "base64")), width, height), box, `${width}x${height}`);
  }
});

test("smoothing.js filters as Python does", () => {
  const runs = python(`
import json
import numpy as np
from sonoedge.edge_runtime.stream.smoothing import Smoother
rng = np.random.default_rng(12)
for _ in range(20):
    times = np.cumsum(rng.choice([0.01, 0.04, 0.3, 2.0, 6.0], 40))
    logits = rng.normal(0, 4, 40)
    smoother = Smoother()
    answers = [smoother.add(float(logit), float(when)) for logit, when in zip(logits, times)]
    print(json.dumps([[float(l), float(t), s, [r.low, r.high, r.frames] if r else None] for l, t, (s, r) in zip(logits, times, answers)]))
`);
  for (const run of runs) {
    const smoother = new Smoother();
    for (const [logit, when, smoothed, range] of run) {
      const found = smoother.add(logit, when);
      assert.ok(Math.abs(found.smoothed - smoothed) < 1e-12);
      assert.equal(found.recent === null, range === null);
      if (range) [found.recent.low, found.recent.high, found.recent.frames].forEach((value, i) => assert.ok(Math.abs(value - range[i]) < 1e-12));
    }
  }
});

test("a frame's own reasons win over the smoothed probability", () => {
  const words = { verdicts: { suspicious: { text: "{label}" }, not_suspicious: { text: "{label}" } }, reasons: {}, and: "" };
  const info = { words, labels: ["benign", "malignant"], positive_label: "malignant" };
  const own = { verdict: "uncertain", reasons: ["not_b_mode"], text: "?" };
  assert.equal(overTime(info, own, 0.9, 0.5), own);
  assert.equal(overTime(info, { verdict: "suspicious", reasons: [], text: "" }, 0.1, 0.5).verdict, "not_suspicious");
});
