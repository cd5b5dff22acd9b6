// report.html in a real browser: scripts/checks/report.sh REPORT [SCREENSHOTS].
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const { REPORT, SHOTS } = process.env;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SCREENS = {
  desktop: { viewport: { width: 1280, height: 900 } },
  phone: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true },
};

test("report.html", { skip: !REPORT && "no REPORT" }, async (t) => {
  if (SHOTS) mkdirSync(SHOTS, { recursive: true });
  const url = pathToFileURL(REPORT).href;
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
  t.after(() => browser.close());
  for (const [screen, options] of Object.entries(SCREENS)) for (const colorScheme of ["light", "dark"]) {
    await t.test(`${screen}, ${colorScheme}`, async () => {
      // Its own policy forbids every script but the page's; the checker is one.
      const context = await browser.newContext({ ...options, colorScheme, bypassCSP: true });
      const page = await context.newPage(), requests = [], problems = [];
      page.on("request", (request) => requests.push(request.url()));
      page.on("pageerror", (error) => problems.push(String(error)));
      page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
      await page.goto(url);
      if (SHOTS) await page.screenshot({ path: join(SHOTS, `${screen}-${colorScheme}.png`), fullPage: true });
      assert.deepEqual(requests.filter((address) => address !== url && !address.startsWith("data:")), []);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page scrolls sideways");
      // No label of a drawing is cut off at its edge.
      const cut = await page.locator("svg[role=img] text").evaluateAll((all) => all.filter((text) => {
        const own = text.getBoundingClientRect(), whole = text.ownerSVGElement.getBoundingClientRect();
        return own.left < whole.left - 1 || own.right > whole.right + 1 || own.bottom > whole.bottom + 1;
      }).map((text) => text.textContent));
      assert.deepEqual(cut, []);
      const head = page.locator("table.sortable thead th button").first();
      await head.click();
      assert.ok(await page.locator("th[aria-sort]").count(), "a table does not sort");
      await page.evaluate(AXE);
      const { violations } = await page.evaluate(() => globalThis.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] }));
      assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.slice(0, 3).map(({ html }) => html.slice(0, 160))]), []);
      assert.deepEqual(problems, []);
      await context.close();
    });
  }
  await t.test("on paper", async () => {
    const page = await browser.newPage();
    await page.goto(url);
    const pdf = await page.pdf({ path: SHOTS && join(SHOTS, "print.pdf"), format: "A4" });
    assert.equal(pdf.subarray(0, 5).toString(), "%PDF-");
  });
});
