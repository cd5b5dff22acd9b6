// The documentation site in a real browser, phone and desktop, light and dark: scripts/checks/site.sh.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const { SITE, SHOTS } = process.env;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SCREENS = {
  desktop: { viewport: { width: 1280, height: 900 } },
  phone: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true },
};
// Each screen and each colour scheme once; with SHOTS every pair.
const ALL = Object.keys(SCREENS).flatMap((screen) => [[screen, "light"], [screen, "dark"]]);
const LOOKS = SHOTS ? ALL : [["desktop", "light"], ["phone", "dark"]];
// A page of each kind; the checker takes long for the page of all Python names.
const PAGES = ["index.html", "docs/tutorials/first-bundle.html", "docs/concepts/guard.html", "docs/reference/environment.html",
  "docs/results/benchmark.html"];

test("the site", { skip: !SITE && "no SITE" }, async (t) => {
  if (SHOTS) mkdirSync(SHOTS, { recursive: true });
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
  t.after(() => browser.close());
  for (const [screen, colorScheme] of LOOKS) {
    await t.test(`${screen}, ${colorScheme}`, async () => {
      const context = await browser.newContext({ ...SCREENS[screen], colorScheme, reducedMotion: "reduce" });
      const page = await context.newPage(), requests = [], problems = [];
      page.on("request", (request) => requests.push(request.url()));
      page.on("pageerror", (error) => problems.push(String(error)));
      const faults = {};
      for (const name of PAGES) {
        await page.goto(pathToFileURL(join(SITE, name)).href);
        // The theme dresses tables and code when the page is there: two frames later it is done.
        await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
        if (SHOTS) await page.screenshot({ path: join(SHOTS, `${name.replaceAll("/", "_")}-${screen}-${colorScheme}.png`) });
        if (!await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)) problems.push(`${name} scrolls sideways`);
        const broken = await page.evaluate(() => [...document.images].filter((image) => image.complete && !image.naturalWidth).map(({ src }) => src));
        if (broken.length) problems.push(`${name}: pictures missing: ${broken}`);
        await page.evaluate(AXE);
        const { violations } = await page.evaluate(() => globalThis.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] }));
        for (const { id, nodes } of violations) (faults[id] ??= []).push([name, nodes.length, nodes[0].html.slice(0, 160), nodes[0].any[0]?.message ?? ""]);
      }
      assert.deepEqual(requests.filter((address) => !/^(file|data|blob):/.test(address)), []);
      assert.deepEqual(faults, {});
      assert.deepEqual(problems, []);
      await context.close();
    });
  }
});
