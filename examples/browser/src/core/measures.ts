/** Numbers about a field, each by the rule that the Python package has, on whole numbers. */

import { FIELD_SIZE } from "./classes.js";

type Colour = [red: number, green: number, blue: number];

const BLOCK = 4;
const TOP_PERCENT = 30;

/**
 * Colour of the empty background: the mean of the 4x4-pixel blocks whose darkest channel is among
 * the brightest 30 %, rounded to 1/16 (ties at the threshold belong).
 *
 * @param rgb row-major RGB bytes, `size` x `size`, size a multiple of 4.
 */
export function whitePoint(rgb: Uint8Array, size = FIELD_SIZE): Colour {
  const side = size / BLOCK;
  const sums = new Uint16Array(side * side * 3);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const block = 3 * (Math.floor(y / BLOCK) * side + Math.floor(x / BLOCK));
      const pixel = 3 * (y * size + x);
      for (let c = 0; c < 3; c++) sums[block + c]! += rgb[pixel + c]!;
    }
  }
  const darkest = new Uint16Array(side * side);
  for (let b = 0; b < darkest.length; b++) {
    darkest[b] = Math.min(sums[3 * b]!, sums[3 * b + 1]!, sums[3 * b + 2]!);
  }
  const wanted = Math.max(1, Math.floor((darkest.length * TOP_PERCENT) / 100));
  const threshold = darkest.slice().sort()[darkest.length - wanted]!;
  const total: Colour = [0, 0, 0];
  let count = 0;
  for (let b = 0; b < darkest.length; b++) {
    if (darkest[b]! < threshold) continue;
    count++;
    for (const c of [0, 1, 2] as const) total[c] += sums[3 * b + c]!;
  }
  const sixteenths = (sum: number): number => Math.floor((2 * sum + count) / (2 * count)) / 16;
  return [sixteenths(total[0]), sixteenths(total[1]), sixteenths(total[2])];
}

/**
 * Sharpness: variance of the green channel's Laplacian in units of the squared background, times
 * 10000. For 224 pixels all sums are whole numbers below 2^53, so they are exact.
 */
export function focus(rgb: Uint8Array, backgroundGreen: number, size = FIELD_SIZE): number {
  let total = 0;
  let squares = 0;
  const row = 3 * size;
  for (let y = 1; y < size - 1; y++) {
    for (let x = 1; x < size - 1; x++) {
      const at = y * row + 3 * x + 1;
      const value =
        rgb[at - row]! + rgb[at + row]! + rgb[at - 3]! + rgb[at + 3]! - 4 * rgb[at]!;
      total += value;
      squares += value * value;
    }
  }
  const count = (size - 2) ** 2;
  const variance = (count * squares - total * total) / (count * count);
  return (10_000 * variance) / Math.max(backgroundGreen, 1) ** 2;
}

/** Pieces (8-connected) of a mask that have at least `least` pixels. */
export function countCells(mask: Uint8Array, least: number, size = FIELD_SIZE): number {
  const left = mask.slice();
  let cells = 0;
  const stack: number[] = [];
  for (let seed = 0; seed < left.length; seed++) {
    if (!left[seed]) continue;
    let area = 0;
    left[seed] = 0;
    stack.push(seed);
    while (stack.length) {
      const at = stack.pop()!;
      area++;
      const column = at % size;
      for (let next = -1; next <= 1; next++) {
        if (column + next < 0 || column + next >= size) continue;
        for (const neighbour of [at - size + next, at + next, at + size + next]) {
          // Outside the picture there is nothing, and nothing is not in the mask.
          if (!left[neighbour]) continue;
          left[neighbour] = 0;
          stack.push(neighbour);
        }
      }
    }
    if (area >= least) cells++;
  }
  return cells;
}

/** Share of pixels with every channel in low..high. */
export function shareWithin(rgb: Uint8Array, low: number, high: number): number {
  let inside = 0;
  for (let at = 0; at < rgb.length; at += 3) {
    const least = Math.min(rgb[at]!, rgb[at + 1]!, rgb[at + 2]!);
    const most = Math.max(rgb[at]!, rgb[at + 1]!, rgb[at + 2]!);
    if (least >= low && most <= high) inside++;
  }
  return inside / (rgb.length / 3);
}

/** Mean colour of the pixels that `chosen` picks, and how many they are. */
export function meanColour(
  rgb: Uint8Array,
  chosen: (pixel: number) => boolean,
): { mean: Colour; count: number } {
  const mean: Colour = [0, 0, 0];
  let count = 0;
  for (let pixel = 0; pixel < rgb.length / 3; pixel++) {
    if (!chosen(pixel)) continue;
    count++;
    for (const c of [0, 1, 2] as const) mean[c] += rgb[3 * pixel + c]!;
  }
  for (const c of [0, 1, 2] as const) mean[c] /= count || 1;
  return { mean, count };
}
