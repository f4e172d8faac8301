/** One field at the size of the screen, in the proportions of its file. */

import type { Answer } from "../core/classifier.js";
import { byId } from "./dom.js";
import { picture } from "./picture.js";

/** Open the dialogue of index.html on a field; Escape, its button or a tap beside it close it. */
export function enlarge({ prediction, field, mask, size }: Answer, words: string, label: string): void {
  if (!field || !mask || !size) return;
  const dialog = byId<HTMLDialogElement>("large");
  byId("large-title").textContent = `${prediction.source}: ${words}`;
  const shown = picture(field, mask, label);
  // The model saw a square; here its pixels are stretched back.
  const ratio = size.width / size.height;
  shown.style.aspectRatio = String(ratio);
  shown.style.maxWidth = `calc(${ratio} * (100dvh - 9rem))`;
  byId("large-place").replaceChildren(shown);
  dialog.showModal();
}

/** Wire the dialogue once. */
export function listenToEnlarged(): void {
  const dialog = byId<HTMLDialogElement>("large");
  byId("large-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  const mask = byId<HTMLInputElement>("large-mask");
  mask.addEventListener("change", () => {
    byId("large-place").classList.toggle("no-mask", !mask.checked);
  });
}
