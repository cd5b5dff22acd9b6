// Offline mode: the page and the model are kept in this browser.
import { $ } from "./controls.js";
import * as local from "./model/local.js";

/** Whether offline mode can be had here; calls ``onKept`` if this browser has the model already. */
export async function offlineState(info, onKept) {
  const artifact = info.offline && local.browserArtifact(info);
  const option = $("engine").querySelector('[value="browser"]');
  option.disabled = !artifact;
  if (!artifact) {
    $("offline-text").textContent = info.int8_only
      ? "This bundle's file has int8 inputs, which the interpreter in browsers refuses: offline mode is not available. It needs a file that was exported with --target cpu."
      : "This station was installed without LiteRT.js, or its bundle has no TensorFlow Lite file: offline mode is not available.";
    return;
  }
  $("save-offline").disabled = !("serviceWorker" in navigator);
  $("save-offline").textContent = `Keep the model in this browser (${Math.round(artifact.size_bytes / 1e6 + 10)} MB)`;
  if (await kept(info)) offlineReady(onKept);
}

async function kept(info) {
  if (!("caches" in globalThis)) return false;
  const found = await Promise.all(local.offlineUrls(info).map((url) => caches.match(url)));
  return found.every(Boolean);
}

function offlineReady(onKept) {
  onKept();
  $("save-offline").disabled = true;
  $("save-offline").textContent = "Kept in this browser";
  $("offline-text").textContent = "This page and the model work here without the station: reload without a network, and choose “this browser”.";
}

/** Keeps the page and the model in this browser. */
export async function saveOffline(info, onKept) {
  $("save-offline").disabled = true;
  const progress = $("offline-progress");
  progress.hidden = false;
  try {
    await navigator.serviceWorker.register("sw.js");
    await navigator.serviceWorker.ready;
    await navigator.storage?.persist?.();
    const page = await caches.open("sonoedge-page");
    await page.add("v1/bundle");
    const cache = await caches.open(`sonoedge-model-${info.digest.slice(0, 12)}`);
    const urls = local.offlineUrls(info);
    for (const [index, url] of urls.entries()) {
      await cache.add(url);
      progress.value = (index + 1) / urls.length;
    }
    for (const name of await caches.keys()) {
      if (name.startsWith("sonoedge-model-") && !name.endsWith(info.digest.slice(0, 12))) await caches.delete(name);
    }
    offlineReady(onKept);
  } catch (error) {
    $("save-offline").disabled = false;
    $("offline-text").textContent = `The model could not be kept: ${error.message}`;
  }
  progress.hidden = true;
}
