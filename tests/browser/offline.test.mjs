// Offline mode: the model runs in the tab, gives the station's answers, and does so when the station is gone.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { fileOf, openPage, pictures, shot, startBrowser, startStation } from "./station.mjs";

let station, browser, page;
const COUNT = Number(process.env.COUNT ?? 50);
const paths = pictures(COUNT);

before(async () => {
  [station, browser] = await Promise.all([startStation(), startBrowser()]);
  page = await openPage(browser, station.url);
});

after(async () => {
  await browser?.close();
  await station?.stop();
});

/** The station's answer from the same artifact, and the browser's, to one picture. */
const both = (path) => page.evaluate(async (text) => {
  const [local, remote] = await Promise.all([import("./local.js"), import("./remote.js")]);
  globalThis.info ??= await remote.bundleInfo();
  const blob = new Blob([Uint8Array.from(atob(text), (character) => character.charCodeAt(0))]);
  const strip = ({ probability, label, band, explanation, latency_ms, artifact }) =>
    ({ probability, label, band, map: explanation.maps.fused.flat(), latency_ms, artifact });
  return { station: strip(await remote.explain(blob)), browser: strip(await local.explain(info, blob)) };
}, readFileSync(path).toString("base64"));

test(`browser and station agree on ${paths.length} pictures`, { timeout: 600000 }, async () => {
  let worst = 0, worstMap = 0;
  const times = [];
  for (const path of paths) {
    const { station: s, browser: b } = await both(path);
    assert.equal(b.artifact, s.artifact);
    assert.equal(b.label, s.label);
    worst = Math.max(worst, Math.abs(b.probability - s.probability));
    const scale = Math.max(...s.map.map(Math.abs));
    worstMap = Math.max(worstMap, ...s.map.map((value, index) => Math.abs(value - b.map[index]) / scale));
    times.push([s.latency_ms.invoke, b.latency_ms.invoke]);
  }
  const median = (values) => values.sort((a, b) => a - b)[values.length >> 1].toFixed(1);
  console.log(`largest |probability| difference ${worst.toExponential(1)}, map ${worstMap.toExponential(1)} of its peak; `
    + `invoke p50 station ${median(times.map((t) => t[0]))} ms, browser ${median(times.map((t) => t[1]))} ms`);
  assert.ok(worst <= 1e-3, `${worst}`);
  assert.ok(worstMap <= 2e-2, `${worstMap}`);
});

test("with the station gone, the kept page and model still answer", { timeout: 120000 }, async () => {
  await page.locator("#save-offline").click();
  await page.waitForFunction(() => /Kept/.test(document.getElementById("save-offline").textContent), null, { timeout: 60000 });
  const expected = (await both(paths[0])).station;
  assert.equal(await station.stop(), 0);
  page.problems = [];
  await page.reload();
  await page.waitForFunction(() => document.getElementById("verdict").dataset.code === "idle");
  await page.locator("#engine").selectOption("browser");
  await page.setInputFiles("#file", fileOf(paths[0]));
  await page.waitForFunction(() => /views/.test(document.getElementById("bar-text").textContent), null, { timeout: 60000 });
  const shown = parseFloat(await page.locator("#probability").textContent()) / 100;
  assert.ok(Math.abs(shown - expected.probability) <= 1e-3);
  assert.match(await page.locator("#facts").textContent(), /this browser, LiteRT.js/);
  await shot(page, "offline.png");
  // LiteRT.js tells its story on the console's error channel, and the browser reports the requests that the service
  // worker could not pass on; the page itself must not fail.
  assert.deepEqual(page.problems.filter((text) => !/ERR_CONNECTION_REFUSED|^(INFO|WARNING|VERBOSE): /.test(text)), []);
});
