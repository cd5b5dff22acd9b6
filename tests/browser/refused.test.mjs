// A refused picture: the same verdict from the station and from the browser, and nothing of the model's on the page.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { PYTHON, openPage, startBrowser, startStation } from "./station.mjs";

const bundle = fileURLToPath(new URL("../vectors/bundle", import.meta.url));
const DRAWN = "import sys; from PIL import Image; from scripts.vectors.generated import drawn\n"
  + "Image.fromarray(drawn(sys.argv[1], *map(int, sys.argv[2:]))).save(sys.stdout.buffer, 'PNG')";
const drawn = (...picture) => execFileSync(PYTHON, ["-c", DRAWN, ...picture.map(String)]);
const known = drawn("grey", 130, 140, 1), strange = drawn("board", 130, 140, 1);
let station, browser, page;

before(async () => {
  [station, browser] = await Promise.all([startStation("--bundle", bundle, "--artifact", "tflite-fp32"), startBrowser()]);
  page = await openPage(browser, station.url);
});

after(async () => {
  await browser?.close();
  await station?.stop();
});

const code = () => page.locator("#verdict").getAttribute("data-code");
const lit = () => page.evaluate(() => {
  const canvas = document.getElementById("heat");
  return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value, index) => index % 4 === 3 && value > 0);
});

async function analyse(buffer) {
  const count = await page.locator("#history li").count();
  await page.setInputFiles("#file", { name: "x.png", mimeType: "image/png", buffer });
  await page.waitForFunction((before) => document.querySelectorAll("#history li").length > before, count, { timeout: 300000 });
}

for (const engine of ["server", "browser"]) {
  test(`${engine}: a refused picture has a reason, but no number and no heat map`, { timeout: 600000 }, async () => {
    await page.locator("#engine").selectOption(engine);
    await analyse(known);
    assert.equal(await code(), "suspicious");
    assert.ok(await lit());
    assert.ok(await page.locator("#scale").isVisible());
    await page.locator("#framing").check();
    await analyse(strange);
    await page.locator("#framing").uncheck();
    assert.equal(await code(), "refused");
    assert.match(await page.locator("#verdict-text").textContent(), /Refused – no assessment: the picture is not like those/);
    assert.ok(!(await lit()));
    assert.ok(!(await page.locator("#scale").isVisible()));
    assert.doesNotMatch(await page.locator("#history li").first().textContent(), /\d %/);
    assert.doesNotMatch(await page.locator("#facts").textContent(), /Logit/);
    await analyse(known);
    assert.equal(await code(), "suspicious");
  });
}

test("the saved visit has no number of a refused picture", async () => {
  const [download] = await Promise.all([page.waitForEvent("download"), page.locator("#save-json").click()]);
  const stream = await download.createReadStream(), chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  const { results } = JSON.parse(Buffer.concat(chunks).toString());
  const refused = results.filter(({ verdict }) => verdict === "refused");
  assert.equal(refused.length, 2);
  for (const { probability, logit, label, logit_shares, reasons, gate } of refused) {
    assert.deepEqual([probability, logit, label, logit_shares], [null, null, null, undefined]);
    assert.deepEqual(reasons, ["outside_training", "not_b_mode"]);
    assert.ok(Math.abs(gate.distance - refused[0].gate.distance) < 0.01 * gate.distance);
  }
});
