// A station and a browser for the tests: both are real programs, started here and ended here.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

export const { BUNDLE, IMAGES, SHOTS, PYTHON } = process.env;
if (!BUNDLE || !IMAGES) throw new Error("Run this through scripts/checks/browser.sh BUNDLE IMAGES.");
if (SHOTS) mkdirSync(SHOTS, { recursive: true });

/** Up to `count` pictures below IMAGES, taken evenly, masks left out. */
export function pictures(count) {
  const all = [];
  const walk = (folder) => readdirSync(folder).sort().forEach((name) => {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) name === "masks" || walk(path);
    else if (/\.(png|jpe?g)$/i.test(name)) all.push(path);
  });
  walk(IMAGES);
  const step = Math.max(1, all.length / count);
  return Array.from({ length: Math.min(count, all.length) }, (_, index) => all[Math.floor(index * step)]);
}

/** Per artifact: how far the logit may be from the bundle's own, on another machine's kernels. */
export function replayLimits(bundle = BUNDLE) {
  const text = execFileSync(PYTHON, ["-m", "sonoedge.edge_runtime", "verify", bundle, "--json"], { encoding: "utf8" });
  return Object.fromEntries(JSON.parse(text).artifacts.map(({ artifact, tolerance }) => [artifact, tolerance[0]]));
}

/** `sonoedge serve` on a free port, by default of BUNDLE (the last --bundle counts); resolves when it is ready. */
export async function startStation(...options) {
  const child = spawn(PYTHON, ["-m", "sonoedge.edge_runtime", "serve", "--bundle", BUNDLE, "--port", "0", ...options],
    { stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  const url = await new Promise((resolve, reject) => {
    child.stderr.on("data", (chunk) => {
      log += chunk;
      const found = /open (http\S+)/.exec(log);
      if (found) resolve(found[1]);
    });
    child.on("exit", (code) => reject(new Error(`the station ended with ${code}: ${log}`)));
  });
  for (let i = 0; i < 600; i++) {
    if ((await fetch(new URL("healthz", url)).catch(() => null))?.ok) break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return {
    url,
    get log() { return log; },
    pause: () => child.kill("SIGSTOP"),
    go: () => child.kill("SIGCONT"),
    /** Its exit code; a station that has ended already is no matter. */
    stop: () => child.exitCode !== null ? Promise.resolve(child.exitCode) : new Promise((resolve) => {
      child.removeAllListeners("exit");
      child.on("exit", (code) => resolve(code));
      child.kill("SIGTERM");
    }),
  };
}

/** Chromium; its camera shows the Y4M file at CAMERA where there is one. */
export function startBrowser(camera) {
  const args = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", "--no-sandbox"];
  if (camera && existsSync(camera)) args.push(`--use-file-for-fake-video-capture=${camera}`);
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
}

/** A page that remembers every request, error and console message. */
export async function openPage(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, acceptDownloads: true, ...options });
  const page = await context.newPage();
  page.problems = [];
  page.requests = [];
  page.on("pageerror", (error) => page.problems.push(String(error)));
  page.on("console", (message) => message.type() === "error" && page.problems.push(message.text()));
  page.on("request", (request) => page.requests.push(request.url()));
  await page.goto(url);
  await page.waitForFunction(() => document.getElementById("verdict").dataset.code !== "busy");
  return page;
}

export const shot = async (page, name) => SHOTS && page.screenshot({ path: join(SHOTS, name), fullPage: true });
export const fileOf = (path) => ({ name: "patient-name.png", mimeType: "image/png", buffer: readFileSync(path) });
