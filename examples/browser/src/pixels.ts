/** Image files and camera pictures to pixels, by what every browser has: bitmaps and a canvas. */

import type { Pixels } from "./core/classifier.js";
import { FieldError } from "./core/errors.js";
import { readImageHeader } from "./core/image-file.js";

/**
 * Decode an image file.
 *
 * No colour management and no premultiplication, so a PNG comes out as its very bytes. Upright by
 * its Exif orientation.
 *
 * @throws FieldError with the Python package's codes.
 */
export async function decodeFile(blob: Blob, source: string): Promise<Pixels> {
  let bytes: ArrayBuffer;
  try {
    bytes = await blob.arrayBuffer();
  } catch {
    // A dropped folder looks like a file until it is read.
    throw new FieldError(
      "unreadable",
      `${source}: cannot be read; if it is a folder, give the files in it`,
    );
  }
  const header = readImageHeader(new Uint8Array(bytes), source, ["jpeg", "png", "bmp"]);
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(blob, {
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
      imageOrientation: "from-image",
    });
  } catch {
    throw new FieldError(
      "truncated",
      `${source}: is a damaged ${header.format.toUpperCase()}, or one of a kind that this ` +
        "browser does not read; copy or export it again",
    );
  }
  try {
    return readPixels(bitmap, bitmap.width, bitmap.height, source);
  } finally {
    bitmap.close();
  }
}

/** The picture that a video shows now. */
export function grabFrame(video: HTMLVideoElement, source: string): Pixels {
  if (!video.videoWidth) {
    throw new FieldError("empty", `${source}: the camera has no picture yet; try again`);
  }
  return readPixels(video, video.videoWidth, video.videoHeight, source);
}

function readPixels(
  image: CanvasImageSource,
  width: number,
  height: number,
  source: string,
): Pixels {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  // `willReadFrequently` keeps the canvas off the graphics card, where colours may be rounded.
  const context = canvas.getContext("2d", { willReadFrequently: true });
  let data: Uint8ClampedArray;
  try {
    context!.drawImage(image, 0, 0);
    data = context!.getImageData(0, 0, width, height).data;
  } catch {
    throw new FieldError(
      "too_large",
      `${source}: ${width}x${height} pixels are more than this browser can hold; make it smaller`,
    );
  }
  for (let at = 3; at < data.length; at += 4) {
    // A canvas loses colour where it is transparent, so the answer would not be the field's.
    if (data[at] !== 255) {
      throw new FieldError(
        "unsupported",
        `${source}: has transparent pixels; save it without transparency`,
      );
    }
  }
  return { data, width, height, channels: 4 };
}

/**
 * Does a canvas give back what was put in? Some browsers add noise to what pages read from it, as
 * a guard against fingerprinting; fields would then be altered unseen.
 */
export function canvasIsExact(): boolean {
  const side = 64;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) return false;
  const given = context.createImageData(side, side);
  for (let at = 0; at < given.data.length; at++) {
    given.data[at] = at % 4 === 3 ? 255 : (at * 89 + (at >> 5) * 7) % 256;
  }
  context.putImageData(given, 0, 0);
  const got = context.getImageData(0, 0, side, side).data;
  return got.every((value, at) => value === given.data[at]);
}
