// Server mode, in a real browser.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { PYTHON, fileOf, openPage, pictures, shot, startBrowser, startStation } from "./station.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
let station, browser, page;
const [first, second] = pictures(2);

before(async () => {
  [station, browser] = await Promise.all([startStation(), startBrowser(process.env.CAMERA)]);
  page = await openPage(browser, station.url);
});

after(async () => {
  await browser?.close();
  await station?.stop();
});

const code = () => page.locator("#verdict").getAttribute("data-code");

const entries = () => page.locator("#history li").count();
const answered = (before) => page.waitForFunction((count) => document.querySelectorAll("#history li").length > count, before);

async function analyse(path) {
  const before = await entries();
  await page.setInputFiles("#file", fileOf(path));
  await answered(before);
}

const heatSum = () => page.evaluate(() => {
  const canvas = document.getElementById("heat");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return data.reduce((sum, value, index) => sum + value * ((index % 97) + 1), 0);
});

test("the page starts idle, with the model's identity and the notice", async () => {
  assert.equal(await code(), "idle");
  assert.match(await page.locator("#intended-use").textContent(), /Research use only/);
  assert.match(await page.locator("#facts").textContent(), /[0-9a-f]{64}/);
});

test("a picture gets the station's own answer, a heat map and a band", async () => {
  await page.locator("#framing").check();
  await analyse(first);
  await page.locator("#framing").uncheck();
  const body = new FormData();
  body.append("image", new Blob([readFileSync(first)]));
  const expected = await (await fetch(new URL("v1/explain?views=5", station.url), { method: "POST", body })).json();
  assert.equal(await code(), expected.verdict);
  assert.equal(await page.locator("#verdict-text").textContent(), expected.text);
  assert.equal(await page.locator("#probability").textContent(), `${(100 * expected.probability).toFixed(1)} %`);
  const { low, high } = expected.band;
  const bar = await page.locator("#bar").boundingBox(), needle = await page.locator("#needle").boundingBox();
  assert.ok(Math.abs((needle.x + needle.width / 2 - bar.x) / bar.width - expected.probability) < 0.01);
  const span = await page.locator("#band").boundingBox();
  assert.ok(Math.abs((span.x - bar.x) / bar.width - low) < 0.01);
  assert.match(await page.locator("#bar-text").textContent(), new RegExp(`^${(100 * low).toFixed(1)} % to ${(100 * high).toFixed(1)} % over 5`));
  assert.notEqual(await heatSum(), 0);
  await shot(page, "desktop.png");
});

test("class, branch and opacity change the heat map, also from the keyboard", async () => {
  const positive = await heatSum();
  await page.locator("#classes button").last().click();
  const negative = await heatSum();
  assert.notEqual(positive, negative);
  await page.locator("#branches button").first().focus();
  await page.keyboard.press("ArrowRight");
  // Fused and one button a branch; the map of the only branch is the fused one.
  if ((await page.locator("#branches button").count()) > 2) assert.notEqual(await heatSum(), negative);
  assert.equal(await page.locator('#branches [aria-checked="true"]').count(), 1);
  await page.locator("#opacity").fill("0");
  assert.equal(await page.locator("#heat").evaluate((element) => element.style.opacity), "0");
  await page.locator("#opacity").fill("60");
  await page.locator("#branches button").first().click();
  await page.locator("#classes button").first().click();
});

test("a dropped file is analysed", async () => {
  const data = await page.evaluateHandle((text) => {
    const transfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    transfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
    return transfer;
  }, readFileSync(second).toString("base64"));
  const before = await entries();
  await page.dispatchEvent("body", "drop", { dataTransfer: data });
  await answered(before);
});

test("a file that is no picture gets one sentence, and the page goes on", async () => {
  await page.setInputFiles("#file", { name: "x.png", mimeType: "image/png", buffer: Buffer.from("no picture at all") });
  await page.waitForFunction(() => document.getElementById("verdict").dataset.code === "error");
  assert.match(await page.locator("#verdict-text").textContent(), /not a PNG, JPEG, BMP, TIFF or DICOM image/);
  // The browser itself reports the 422 in its console; nothing else may be there.
  page.problems = page.problems.filter((text) => !/422/.test(text));
  await analyse(first);
});

const dicom = () => execFileSync(PYTHON, ["-c", "import sys; from sonoedge.edge_runtime.dicom.secondary_capture import secondary_capture; "
  + "from sonoedge.edge_runtime.imaging.image import read_image; "
  + "sys.stdout.buffer.write(secondary_capture([read_image(sys.argv[1])] * 2, None, text='', deidentify=True))", first],
{ maxBuffer: 1 << 28 });
const cine = (buffer) => ({ name: "cine.dcm", mimeType: "application/dicom", buffer });

/** What of a picture and its answer is on screen. */
const onScreen = () => page.evaluate(() => {
  const lit = (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value, index) => index % 4 < 3 && value > 60);
  const at = (id) => document.getElementById(id);
  return {
    picture: !at("frame").hidden && !at("picture").hidden && lit(at("picture")), heat: lit(at("heat")), scale: !at("scale").hidden,
    hints: at("hints").children.length, facts: /Logit|Time/.test(at("facts").textContent), controls: !at("heat-controls").disabled,
  };
});
const NOTHING = { picture: false, heat: false, scale: false, hints: 0, facts: false, controls: false };

test("a DICOM loop, which no browser can show, is answered frame by frame, and the page says which", async () => {
  const fact = () => page.locator("#facts").textContent();
  await page.setInputFiles("#file", cine(dicom()));
  await page.waitForFunction(() => /Frame\s*1 of 2/.test(document.getElementById("facts").textContent));
  assert.ok((await onScreen()).picture);
  assert.equal(await page.locator("#frame-count").textContent(), "of 2");
  const before = await entries();
  await page.locator("#frame-number").fill("2");
  await page.locator("#frame-number").press("Enter");
  await answered(before);
  assert.match(await fact(), /Frame\s*2 of 2/);
  assert.match(await page.locator("#history li").first().textContent(), /frame 2 of 2/);
  await shot(page, "dicom.png");
  await analyse(first);
  assert.ok(await page.locator("#frames").isHidden());
  assert.doesNotMatch(await fact(), /of 2 of this file/);
  page.problems = page.problems.filter((text) => !/422/.test(text));
});

test("nothing of the last picture stays while a DICOM file is analysed, nor after it has failed", async () => {
  await analyse(first);
  assert.ok((await onScreen()).picture && (await onScreen()).facts);
  let goOn;
  const asked = new Promise((resolve) => {
    page.route("**/v1/explain*", (route) => {
      // The first question brings the number of frames, the second the answer.
      if (!route.request().url().includes("frame=")) return route.continue();
      goOn = () => route.continue();
      resolve();
    }, { times: 2 });
  });
  const before = await entries();
  await page.setInputFiles("#file", cine(dicom()));
  await asked;
  assert.deepEqual(await onScreen(), NOTHING);
  assert.equal(await code(), "busy");
  await shot(page, "busy.png");
  goOn();
  await answered(before);
  await page.setInputFiles("#file", cine(Buffer.concat([Buffer.alloc(128), Buffer.from("DICM"), Buffer.alloc(40)])));
  await page.waitForFunction(() => document.getElementById("verdict").dataset.code === "error");
  assert.deepEqual(await onScreen(), NOTHING);
  assert.ok(await page.locator("#empty").isVisible());
  await shot(page, "failed.png");
  page.problems = page.problems.filter((text) => !/422/.test(text));
});

test("a picture is sent once", async () => {
  const sent = () => page.requests.filter((url) => url.includes("/v1/explain")).length;
  const before = sent();
  await analyse(second);
  assert.equal(sent(), before + 1);
});

test("the visit is saved as JSON without pictures or file names", async () => {
  const [download] = await Promise.all([page.waitForEvent("download"), page.locator("#save-json").click()]);
  const visit = JSON.parse(readFileSync(await download.path(), "utf8"));
  assert.ok(visit.results.length >= 3);
  assert.match(visit.intended_use, /Research use only/);
  assert.ok(!JSON.stringify(visit).includes("patient-name"));
  assert.ok(visit.results.every(({ preview, probability, verdict }) => preview === undefined
    && (verdict === "refused" ? probability === null : Number.isFinite(probability))));
});

test("the visit prints", async () => {
  const pdf = await page.pdf({ format: "A4" });
  assert.equal(pdf.subarray(0, 5).toString(), "%PDF-");
});

test("no accessibility rule of WCAG 2.1 AA is broken", async () => {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] }));
  assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]), []);
});

test("camera frames are answered live, and a frozen one is analysed as a picture", async () => {
  await page.locator("#camera").click();
  await page.waitForFunction(() => /[3-9] sent|\d\d sent/.test(document.getElementById("facts").textContent), null, { timeout: 60000 });
  assert.notEqual(await code(), "error");
  assert.notEqual(await page.locator("#video").evaluate((video) => video.videoWidth), 0);
  await shot(page, "live.png");
  const entries = await page.locator("#history li").count();
  await page.locator("#freeze").click();
  await page.waitForFunction((count) => document.querySelectorAll("#history li").length > count, entries);
  assert.equal(await page.locator("#camera").textContent(), "Camera");
});

test("the page fits a phone", async () => {
  const phone = await openPage(browser, station.url, { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
  await phone.setInputFiles("#file", fileOf(first));
  await phone.waitForSelector("#history li");
  await shot(phone, "phone.png");
  assert.ok(await phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  const small = await phone.locator("button:visible").evaluateAll((all) => all.filter((b) => b.getBoundingClientRect().height < 40).length);
  assert.equal(small, 0);
  await phone.context().close();
});

test("nothing was loaded from elsewhere and nothing broke", () => {
  const origin = new URL(station.url).origin;
  assert.deepEqual(page.requests.filter((url) => !/^(blob|data):/.test(url) && new URL(url).origin.replace("ws", "http") !== origin), []);
  assert.deepEqual(page.problems, []);
  assert.ok(!station.log.includes("error"), station.log);
});

test("a station with a token lets nobody in without it", async () => {
  const locked = await startStation("--token", "a-long-enough-token");
  try {
    assert.equal((await fetch(new URL("v1/bundle", locked.url))).status, 401);
    const guest = await openPage(browser, locked.url);
    assert.ok(await guest.locator("#login").isVisible());
    await guest.fill("#token", "a-wrong-token");
    await guest.locator("#login button").click();
    await guest.waitForFunction(() => document.getElementById("login-error").textContent.includes("Wrong token"));
    await guest.fill("#token", "a-long-enough-token");
    await guest.locator("#login button").click();
    await guest.waitForFunction(() => document.getElementById("verdict").dataset.code === "idle");
    await guest.setInputFiles("#file", fileOf(first));
    await guest.waitForSelector("#history li");
    await guest.context().close();
  } finally {
    await locked.stop();
  }
});
