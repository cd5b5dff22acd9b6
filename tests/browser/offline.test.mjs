// Offline mode: the model runs in the tab, gives the station's answers, and does so when the station is gone.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { fileOf, openPage, pictures, replayLimits, shot, startBrowser, startStation } from "./station.mjs";

let station, exact, browser, page;
const COUNT = Number(process.env.COUNT ?? 50);
const paths = pictures(COUNT);
const limits = replayLimits();

before(async () => {
  [station, exact, browser] = await Promise.all([startStation(), startStation("--artifact", "tflite-fp32"), startBrowser()]);
  page = await openPage(browser, station.url);
});

after(async () => {
  await browser?.close();
  await station?.stop();
  await exact?.stop();
});

/** The station's answer and the browser's, from the same artifact, to one picture. */
const both = (where, path) => where.evaluate(async (text) => {
  const [local, remote] = await Promise.all([import("./model/local.js"), import("./model/remote.js")]);
  globalThis.info ??= await remote.bundleInfo();
  const blob = new Blob([Uint8Array.from(atob(text), (character) => character.charCodeAt(0))]);
  const strip = ({ explanation, ...answer }) => ({ ...answer, map: explanation?.maps.fused.flat() });
  return { station: strip(await remote.explain(blob)), browser: strip(await local.explain(info, blob)) };
}, readFileSync(path).toString("base64"));

/**
 * Largest differences over the pictures: logit, probability, map (of its peak). Decisions must be equal, except
 * where the station's logit is closer to the threshold than `allowed`, the two kernels' own difference.
 */
async function compare(where, pictures, allowed) {
  const worst = { logit: 0, probability: 0, map: 0 };
  const times = { station: [], browser: [] };
  for (const path of pictures) {
    const { station: s, browser: b } = await both(where, path);
    assert.equal(b.artifact, s.artifact);
    assert.deepEqual(b.hints, s.hints);
    if (s.gate) {
      const off = Math.abs(b.gate.distance - s.gate.distance), between = (limit) => Math.abs(s.gate.distance - limit);
      // The maps differ as the logits do; a picture beside a limit may fall on either side.
      if (Math.min(between(s.gate.warning), between(s.gate.threshold)) <= 2 * off) continue;
      assert.deepEqual(b.reasons, s.reasons);
    }
    if (s.verdict === "refused") {
      assert.deepEqual([b.verdict, b.probability, b.logit, b.map], ["refused", null, null, undefined]);
      continue;
    }
    const threshold = Math.log(s.threshold / (1 - s.threshold));
    if (Math.abs(s.logit - threshold) > allowed) assert.deepEqual([b.label, b.verdict], [s.label, s.verdict]);
    const scale = Math.max(...s.map.map(Math.abs));
    worst.logit = Math.max(worst.logit, Math.abs(b.logit - s.logit));
    worst.probability = Math.max(worst.probability, Math.abs(b.probability - s.probability));
    worst.map = Math.max(worst.map, ...s.map.map((value, index) => Math.abs(value - b.map[index]) / scale));
    times.station.push(s.latency_ms.invoke);
    times.browser.push(b.latency_ms.invoke);
  }
  const median = (values) => values.sort((a, b) => a - b)[values.length >> 1].toFixed(1);
  console.log(`largest difference: logit ${worst.logit.toExponential(1)}, probability ${worst.probability.toExponential(1)}, `
    + `map ${worst.map.toExponential(1)} of its peak; invoke p50 station ${median(times.station)} ms, `
    + `browser ${median(times.browser)} ms`);
  return worst;
}

test(`browser and station agree on ${paths.length} pictures`, { timeout: 600000 }, async () => {
  // int8: the browser's kernels round otherwise than the station's; the bundle says how much that may be.
  const worst = await compare(page, paths, limits["tflite-int8"]);
  assert.ok(worst.logit <= limits["tflite-int8"], `${worst.logit} > ${limits["tflite-int8"]}`);
});

test("in float32 they agree to rounding", { timeout: 600000 }, async () => {
  const other = await openPage(browser, exact.url);
  const worst = await compare(other, pictures(10), limits["tflite-fp32"]);
  await other.context().close();
  assert.ok(worst.logit <= limits["tflite-fp32"], `${worst.logit}`);
  assert.ok(worst.map <= 1e-3, `${worst.map}`);
});

test("a model of one branch, whose fused map is that branch's, agrees too", { timeout: 120000 }, async () => {
  // Without its gate, which refuses every picture of another kind than its own.
  const bundle = join(mkdtempSync(join(tmpdir(), "sonoedge-")), "bundle");
  cpSync(fileURLToPath(new URL("../vectors/cascade/first", import.meta.url)), bundle, { recursive: true });
  rmSync(join(bundle, "domain.npz"), { force: true });
  const manifest = readFileSync(join(bundle, "bundle.json"), "utf8").replace('"gate": "domain.npz"', '"gate": null');
  writeFileSync(join(bundle, "bundle.json"), manifest);
  const digest = createHash("sha256").update(manifest).digest("hex");
  const sums = readFileSync(join(bundle, "SHA256SUMS"), "utf8").replace(/.*domain\.npz\n/, "");
  writeFileSync(join(bundle, "SHA256SUMS"), sums.replace(/.*(?=  bundle\.json\n)/, digest));
  const single = await startStation("--bundle", bundle);
  try {
    const other = await openPage(browser, single.url);
    const limit = replayLimits(bundle)["tflite-int8"];
    const worst = await compare(other, pictures(10), limit);
    await other.context().close();
    assert.ok(worst.logit <= limit, `${worst.logit} > ${limit}`);
    assert.ok(worst.map <= 0.1, `${worst.map}`);
  } finally {
    await single.stop();
    rmSync(dirname(bundle), { recursive: true });
  }
});

test("the browser crops to the scan as the station does", { timeout: 120000 }, async () => {
  const answers = await page.evaluate(async (text) => {
    const [local, remote] = await Promise.all([import("./model/local.js"), import("./model/remote.js")]);
    globalThis.info ??= await remote.bundleInfo();
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const picture = await createImageBitmap(new Blob([bytes]));
    const canvas = new OffscreenCanvas(picture.width + 300, picture.height + 200), context = canvas.getContext("2d");
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(picture, 120, 90);
    const blob = await canvas.convertToBlob();
    return [await remote.explain(blob, { crop: true }), await local.explain(globalThis.info, blob, { crop: true })];
  }, readFileSync(paths[0]).toString("base64"));
  const [s, b] = answers;
  assert.ok(s.crop);
  assert.deepEqual([b.crop, b.image_size, b.hints], [s.crop, s.image_size, s.hints]);
  if (s.logit !== null && b.logit !== null) assert.ok(Math.abs(b.logit - s.logit) <= limits["tflite-int8"]);
});

test("live frames in the browser are smoothed", { timeout: 120000 }, async () => {
  const seen = await page.evaluate(async (texts) => {
    const [local, remote] = await Promise.all([import("./model/local.js"), import("./model/remote.js")]);
    globalThis.info ??= await remote.bundleInfo();
    const now = performance.now.bind(performance);
    let time = now();
    performance.now = () => time += 10; // a slow machine must not let the filter start afresh
    const answers = [];
    const stream = new local.LiveStream(globalThis.info, {}, (answer) => answers.push(answer), (error) => { throw error; });
    for (const text of texts) {
      await stream.send(new Blob([Uint8Array.from(atob(text), (character) => character.charCodeAt(0))]));
    }
    performance.now = now;
    return answers;
  }, paths.slice(0, 8).map((path) => readFileSync(path).toString("base64")));
  assert.deepEqual(seen.map(({ frame }) => frame), paths.slice(0, 8).map((_, index) => index + 1));
  const answered = seen.filter(({ probability }) => probability !== null);
  assert.ok(answered.length >= 3);
  const own = answered.map(({ probability }) => probability);
  const near = (value, wanted) => assert.ok(Math.abs(value - wanted) < 1e-6, `${value} ${wanted}`);
  near(answered[0].smoothed, own[0]);
  const last = answered.at(-1);
  near(last.recent.low, Math.min(...own));
  near(last.recent.high, Math.max(...own));
  assert.equal(last.recent.frames, own.length);
  assert.ok(last.smoothed > last.recent.low && last.smoothed < last.recent.high && last.smoothed !== last.probability);
});

test("with the station gone, the kept page and model still answer", { timeout: 120000 }, async () => {
  await page.locator("#save-offline").click();
  await page.waitForFunction(() => /Kept/.test(document.getElementById("save-offline").textContent), null, { timeout: 60000 });
  const expected = (await both(page, paths[0])).browser;
  // A station that hangs, as one behind a dead network does: it takes the connection and says nothing.
  station.pause();
  await page.reload();
  await page.waitForFunction(() => document.getElementById("verdict").dataset.code === "idle");
  station.go();
  assert.equal(await station.stop(), 0);
  page.problems = [];
  await page.reload();
  await page.waitForFunction(() => document.getElementById("verdict").dataset.code === "idle");
  await page.locator("#engine").selectOption("browser");
  await page.setInputFiles("#file", fileOf(paths[0]));
  await page.waitForFunction(() => document.querySelector("#history li"), null, { timeout: 60000 });
  const shown = parseFloat(await page.locator("#probability").textContent()) / 100;
  assert.ok(Math.abs(shown - expected.probability) <= 1e-3);
  assert.match(await page.locator("#facts").textContent(), /this browser, LiteRT.js/);
  await shot(page, "offline.png");
  // LiteRT.js tells its story on the console's error channel, and the browser reports the requests that the service
  // worker could not pass on; the page itself must not fail.
  assert.deepEqual(page.problems.filter((text) => !/ERR_CONNECTION_REFUSED|^(INFO|WARNING|VERBOSE): /.test(text)), []);
});
