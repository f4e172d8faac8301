/** The bytes of a JPEG or PNG file to pixels, with sharp (libjpeg-turbo/mozjpeg and libspng). */

import sharp from "sharp";

import type { Pixels } from "../../browser/src/core/classifier.js";
import { FieldError } from "../../browser/src/core/errors.js";
import { MAX_PIXELS, readImageHeader } from "../../browser/src/core/image-file.js";

sharp.cache(false);
sharp.concurrency(1);

/**
 * Decode one image file to upright RGB. No colour management: an embedded profile is ignored, as
 * the Python package ignores it. Alpha is dropped. 16-bit values v become v * 255 / 65535, rounded.
 *
 * @throws FieldError `empty`, `not_an_image`, `unsupported`, `truncated`, `too_large`,
 * `too_small` or `grey`.
 */
export async function decodeImage(data: Uint8Array, source: string): Promise<Pixels> {
  const header = readImageHeader(data, source, ["jpeg", "png"]);
  try {
    const image = sharp(data, {
      ignoreIcc: true,
      failOn: "warning",
      limitInputPixels: MAX_PIXELS,
    })
      .rotate()
      .removeAlpha();
    if (header.depth === 16) image.toColourspace("rgb16");
    const { data: bytes, info } = await image
      .raw({ depth: header.depth === 16 ? "ushort" : "uchar" })
      .toBuffer({ resolveWithObject: true });
    const pixels = header.depth === 16 ? toEightBits(bytes) : bytes;
    if (info.channels !== 3 || pixels.length !== info.width * info.height * 3) {
      throw new Error(`${info.channels} channels`);
    }
    return { data: pixels, width: info.width, height: info.height, channels: 3 };
  } catch (error) {
    const reason = error instanceof Error ? error.message.split("\n")[0] : String(error);
    throw new FieldError(
      "truncated",
      `${source}: is a damaged ${header.format.toUpperCase()}, or one of a kind that is not read ` +
        `(${reason}); copy or export it again`,
    );
  }
}

function toEightBits(bytes: Buffer): Uint8Array {
  const wide = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
  return Uint8Array.from(wide, (value) => Math.floor((value + 128) / 257));
}
