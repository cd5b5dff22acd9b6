// Pieces of the page that know nothing of pictures' answers.
export const $ = (id) => document.getElementById(id);

/** A radio group of large buttons; arrow keys move in it. */
export function choices(group, options, chosen, onChoose) {
  const buttons = options.map(([value, text]) => {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: text, tabIndex: value === chosen ? 0 : -1 });
    button.dataset.value = value;
    button.setAttribute("role", "radio");
    button.setAttribute("aria-checked", String(value === chosen));
    return button;
  });
  const choose = (button) => {
    for (const other of buttons) {
      other.setAttribute("aria-checked", String(other === button));
      other.tabIndex = other === button ? 0 : -1;
    }
    onChoose(button.dataset.value);
  };
  buttons.forEach((button, index) => {
    button.addEventListener("click", () => choose(button));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = buttons[(index + step + buttons.length) % buttons.length];
      next.focus();
      choose(next);
    });
  });
  group.replaceChildren(...buttons);
}

export async function pictureOf(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

export const nextFrame = (video) => new Promise((resolve) => {
  // The timer also ticks where the callback never comes: a paused clip, a hidden tab.
  const timer = setTimeout(resolve, 200);
  video.requestVideoFrameCallback?.(() => {
    clearTimeout(timer);
    resolve();
  });
});

/** Calls ``take`` with the files that are dropped on the page or pasted into it. */
export function takeDropped(take) {
  let dragDepth = 0;
  addEventListener("dragenter", (event) => {
    event.preventDefault();
    dragDepth++;
    $("drop-cover").hidden = false;
  });
  addEventListener("dragleave", () => {
    if (--dragDepth <= 0) $("drop-cover").hidden = true;
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    dragDepth = 0;
    $("drop-cover").hidden = true;
    take(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => take(event.clipboardData.files));
}
