/**
 * The resize rule `area-exact/1`: every output pixel is the mean of its source rectangle.
 *
 * Output pixel (i, j) covers the source rectangle [i*H/size, (i+1)*H/size) x [j*W/size,
 * (j+1)*W/size). In units of 1/size of a source pixel every overlap is a whole number, the weights
 * add up to H*W, and the mean is rounded half up: floor((2*sum + H*W) / (2*H*W)). A sum is at most
 * 255*H*W, far below 2^53, so JavaScript's numbers hold it exactly. The final division may be done
 * in floating point too: the quotient stays below 256, and a fraction's distance from the next
 * whole number is at least 1/(2*H*W), which is far more than half a unit in the last place.
 */

import { FIELD_SIZE } from "./classes.js";

/**
 * Squash a field to `size` x `size` x 3.
 *
 * @param pixels row-major bytes, `channels` per pixel; the first three are red, green, blue.
 * @param channels 3 (RGB) or 4 (RGBA as a canvas gives it; the fourth is not looked at).
 * @returns row-major RGB bytes, always a new array.
 */
export function squash(
  pixels: Uint8Array | Uint8ClampedArray,
  width: number,
  height: number,
  channels: 3 | 4,
  size: number = FIELD_SIZE,
): Uint8Array {
  for (const side of [width, height, size]) {
    if (!Number.isInteger(side) || side < 1) throw new RangeError(`a side of ${side} pixels`);
  }
  if (pixels.length !== width * height * channels) {
    throw new RangeError(`${pixels.length} bytes are not ${width}x${height}x${channels}`);
  }
  const out = new Uint8Array(size * size * 3);
  // One band of rows at a time: its weighted sum per source column, at most 255*height.
  const columns = new Float64Array(width * 3);
  const total = width * height;
  for (let band = 0; band < size; band++) {
    sumRows(pixels, width, height, channels, band, size, columns);
    for (let j = 0; j < size; j++) {
      const low = j * width;
      const high = low + width;
      const last = Math.floor((high - 1) / size);
      let red = 0;
      let green = 0;
      let blue = 0;
      for (let x = Math.floor(low / size); x <= last; x++) {
        const weight = Math.min(high, (x + 1) * size) - Math.max(low, x * size);
        red += weight * columns[3 * x]!;
        green += weight * columns[3 * x + 1]!;
        blue += weight * columns[3 * x + 2]!;
      }
      const at = 3 * (band * size + j);
      out[at] = Math.floor((2 * red + total) / (2 * total));
      out[at + 1] = Math.floor((2 * green + total) / (2 * total));
      out[at + 2] = Math.floor((2 * blue + total) / (2 * total));
    }
  }
  return out;
}

/** Weighted sum of the rows of one band, red, green and blue of each column, into `into`. */
function sumRows(
  pixels: Uint8Array | Uint8ClampedArray,
  width: number,
  height: number,
  channels: number,
  band: number,
  size: number,
  into: Float64Array,
): void {
  into.fill(0);
  const low = band * height;
  const high = low + height;
  const last = Math.floor((high - 1) / size);
  for (let row = Math.floor(low / size); row <= last; row++) {
    const weight = Math.min(high, (row + 1) * size) - Math.max(low, row * size);
    let from = row * width * channels;
    for (let to = 0; to < into.length; to += 3, from += channels) {
      into[to]! += weight * pixels[from]!;
      into[to + 1]! += weight * pixels[from + 1]!;
      into[to + 2]! += weight * pixels[from + 2]!;
    }
  }
}
