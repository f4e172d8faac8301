/** The field as the model saw it, with the cell mask over it. */

import { FIELD_SIZE } from "../core/classes.js";
import { el } from "./dom.js";

const SHADE = [255, 214, 10, 60] as const;
const EDGE = [20, 20, 20, 255] as const;
const GLOW = [255, 214, 10, 255] as const;
/** The mask is drawn at twice the size, so that its outline stays thin. */
const SCALE = 2;

/** Two canvases on each other; the mask's one is hidden by a class on a parent. */
export function picture(field: Uint8Array, mask: Uint8Array, label: string): HTMLElement {
  const below = canvas(FIELD_SIZE, (rgba) => {
    for (let pixel = 0; pixel < FIELD_SIZE * FIELD_SIZE; pixel++) {
      for (let c = 0; c < 3; c++) rgba[4 * pixel + c] = field[3 * pixel + c]!;
      rgba[4 * pixel + 3] = 255;
    }
  });
  below.setAttribute("role", "img");
  below.setAttribute("aria-label", label);
  const above = canvas(FIELD_SIZE * SCALE, (rgba) => drawMask(rgba, mask));
  above.classList.add("mask");
  above.setAttribute("aria-hidden", "true");
  return el("div", { class: "picture" }, below, above);
}

function canvas(side: number, draw: (rgba: Uint8ClampedArray) => void): HTMLCanvasElement {
  const made = el("canvas", { width: String(side), height: String(side) });
  const context = made.getContext("2d")!;
  const image = context.createImageData(side, side);
  draw(image.data);
  context.putImageData(image, 0, 0);
  return made;
}

/** Shade the cells; their outline is yellow inside and dark outside, so it shows on any stain. */
function drawMask(rgba: Uint8ClampedArray, mask: Uint8Array): void {
  const side = FIELD_SIZE * SCALE;
  const inside = (y: number, x: number): boolean =>
    y >= 0 &&
    x >= 0 &&
    y < side &&
    x < side &&
    mask[Math.floor(y / SCALE) * FIELD_SIZE + Math.floor(x / SCALE)] !== 0;
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const here = inside(y, x);
      const other = [inside(y - 1, x), inside(y + 1, x), inside(y, x - 1), inside(y, x + 1)];
      const edge = other.some((value) => value !== here);
      const colour = here ? (edge ? GLOW : SHADE) : edge ? EDGE : null;
      if (colour) rgba.set(colour, 4 * (y * side + x));
    }
  }
}
