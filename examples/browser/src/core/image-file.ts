/**
 * What an image file says about itself, read before any decoder sees it.
 *
 * Decoders fill the missing part of a cut file with grey and call it done, and a file of a few
 * kilobytes can announce gigabytes of pixels. So format, size and channels are read here and the
 * structure is followed to its end, by the same rules as the Python package. Nothing is decoded.
 * Sources: ITU-T T.81 (JPEG), W3C PNG 3rd edition, Microsoft's BITMAPINFOHEADER.
 */

import { FieldError } from "./errors.js";

export const MAX_PIXELS = 100_000_000;
export const MIN_SIDE = 32;

export type ImageFormat = "jpeg" | "png" | "bmp";

export interface ImageHeader {
  format: ImageFormat;
  /** Columns and rows as stored, before an Exif orientation is applied. */
  width: number;
  height: number;
  /** Bits per channel. */
  depth: number;
  /** False if the file stores one grey channel. */
  colour: boolean;
}

const UNSUPPORTED: readonly (readonly [offset: number, magic: string, name: string])[] = [
  [0, "II*\0", "a TIFF image"],
  [0, "MM\0*", "a TIFF image"],
  [0, "II+\0", "a TIFF image"],
  [0, "MM\0+", "a TIFF image"],
  [0, "GIF8", "a GIF image"],
  [8, "WEBP", "a WebP image"],
  [4, "ftypavif", "an AVIF image"],
  [4, "ftypheic", "a HEIC image"],
  [4, "ftypmif1", "a HEIF image"],
  [4, "jP  \r\n\x87\n", "a JPEG 2000 image"],
  [0, "\xff\x4f\xff\x51", "a JPEG 2000 image"],
  [0, "\xff\x0a", "a JPEG XL image"],
  [0, "%PDF", "a PDF document"],
  [128, "DICM", "a DICOM file"],
];

const latin1 = (data: Uint8Array, from: number, length: number): string =>
  String.fromCharCode(...data.subarray(from, from + length));

/** Raised inside this module; `readImageHeader` adds the name of the input. */
class Broken extends Error {
  constructor(
    readonly code: "truncated" | "unsupported" | "not_an_image",
    message: string,
  ) {
    super(message);
  }
}

/**
 * Read a file's header and check it for what no program may answer.
 *
 * @param formats the formats that the caller can decode.
 * @throws FieldError `empty`, `not_an_image`, `unsupported`, `truncated`, `too_large`,
 * `too_small` or `grey`.
 */
export function readImageHeader(
  data: Uint8Array,
  source: string,
  formats: readonly ImageFormat[],
): ImageHeader {
  if (!data.length) throw new FieldError("empty", `${source}: the file is empty; copy it again`);
  let header: ImageHeader;
  try {
    header = read(data, formats);
  } catch (error) {
    // A DataView complains with a RangeError when it is asked for bytes behind the end.
    const broken =
      error instanceof RangeError
        ? new Broken("truncated", "is cut off inside its header") : error;
    if (!(broken instanceof Broken)) throw error;
    const hint = {
      truncated: "copy or export it again",
      unsupported: "convert it to PNG or 8-bit JPEG",
      not_an_image: "give an image file",
    }[broken.code];
    throw new FieldError(broken.code, `${source}: ${broken.message}; ${hint}`);
  }
  const size = `${header.width}x${header.height}`;
  if (header.width * header.height > MAX_PIXELS) {
    throw new FieldError(
      "too_large",
      `${source}: ${size} pixels are more than the limit of ${MAX_PIXELS / 1e6} megapixels; ` +
        "cut it into fields first",
    );
  }
  if (Math.min(header.width, header.height) < MIN_SIDE) {
    throw new FieldError(
      "too_small",
      `${source}: ${size} pixels are too few for a field (at least ${MIN_SIDE}x${MIN_SIDE}); ` +
        "give the whole field",
    );
  }
  if (!header.colour) throw grey(source);
  return header;
}

/** Refuse decoded pixels without any colour (three equal channels everywhere). */
export function refuseGrey(
  pixels: Uint8Array | Uint8ClampedArray,
  channels: 3 | 4,
  source: string,
): void {
  for (let at = 0; at < pixels.length; at += channels) {
    const red = pixels[at]!;
    if (red !== pixels[at + 1]! || red !== pixels[at + 2]!) return;
  }
  throw grey(source);
}

function grey(source: string): FieldError {
  return new FieldError(
    "grey",
    `${source}: is a grey image; the stain's colour is needed, so give the colour original`,
  );
}

function read(data: Uint8Array, formats: readonly ImageFormat[]): ImageHeader {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const known: readonly [ImageFormat, string, (view: DataView) => ImageHeader][] = [
    ["jpeg", "\xff\xd8\xff", jpeg],
    ["png", "\x89PNG\r\n\x1a\n", png],
    ["bmp", "BM", bmp],
  ];
  for (const [format, magic, reader] of known) {
    if (latin1(data, 0, magic.length) !== magic) continue;
    if (!formats.includes(format)) throw new Broken("unsupported", `is a ${format} image`);
    return reader(view);
  }
  for (const [offset, magic, name] of UNSUPPORTED) {
    if (latin1(data, offset, magic.length) === magic) throw new Broken("unsupported", `is ${name}`);
  }
  const names = formats.map((format) => format.toUpperCase()).join(", ");
  throw new Broken("not_an_image", `is not an image of a kind that is read (${names})`);
}

const isFrame = (marker: number): boolean =>
  marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
const isStandalone = (marker: number): boolean =>
  marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8);

/** Follow the segments, scan by scan, to the end marker that belongs to the picture itself. */
function jpeg(view: DataView): ImageHeader {
  let frame: ImageHeader | null = null;
  let scans = 0;
  let at = 2;
  for (;;) {
    while (view.getUint8(at) === 0xff && view.getUint8(at + 1) === 0xff) at++;
    if (view.getUint8(at) !== 0xff) {
      throw new Broken("truncated", "is damaged: a JPEG marker is missing");
    }
    const marker = view.getUint8(at + 1);
    at += 2;
    if (marker === 0xd9) break;
    if (isStandalone(marker)) continue;
    const length = view.getUint16(at);
    if (length < 2 || at + length > view.byteLength) {
      throw new Broken("truncated", "is cut off inside a JPEG segment");
    }
    if (isFrame(marker)) {
      if (frame) throw new Broken("unsupported", "is a JPEG with more than one frame");
      frame = jpegFrame(view, at, marker);
    }
    at += length;
    if (marker === 0xda) {
      scans++;
      at = endOfScan(view, at);
    }
  }
  if (!frame || !scans) throw new Broken("truncated", "is a JPEG without a picture");
  return frame;
}

function jpegFrame(view: DataView, at: number, marker: number): ImageHeader {
  const depth = view.getUint8(at + 2);
  const height = view.getUint16(at + 3);
  const width = view.getUint16(at + 5);
  const channels = view.getUint8(at + 7);
  if (marker > 0xc2 || depth !== 8 || ![1, 3].includes(channels) || !height) {
    throw new Broken(
      "unsupported",
      "is a JPEG of a kind that is not read (only 8-bit baseline or progressive YCbCr/RGB)",
    );
  }
  return { format: "jpeg", width, height, depth, colour: channels === 3 };
}

/** In coded data FF 00 is a plain FF, FF D0..D7 are restart marks, FF FF is filling. */
function endOfScan(view: DataView, from: number): number {
  for (let at = from; at + 1 < view.byteLength; at++) {
    if (view.getUint8(at) !== 0xff) continue;
    const next = view.getUint8(at + 1);
    if (next !== 0x00 && next !== 0xff && !(next >= 0xd0 && next <= 0xd7)) return at;
  }
  throw new Broken("truncated", "is cut off: the end of the JPEG is missing");
}

/** Follow the chunks to IEND and check the checksum of each chunk that the picture needs. */
function png(view: DataView): ImageHeader {
  const data = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  let header: ImageHeader | null = null;
  let pixels = false;
  for (let at = 8; ; ) {
    const kind = latin1(data, at + 4, 4);
    const end = at + 8 + view.getUint32(at);
    if (end + 4 > data.length) throw new Broken("truncated", "is cut off inside its PNG data");
    // Decoders ignore a wrong checksum of a chunk that the picture does not need (lower case).
    if (/^[A-Z]/.test(kind) && crc32(data.subarray(at + 4, end)) !== view.getUint32(end)) {
      throw new Broken("truncated", "is damaged: a PNG checksum is wrong");
    }
    if (!header) {
      if (kind !== "IHDR") throw new Broken("truncated", "is a PNG without a header");
      header = {
        format: "png",
        width: view.getUint32(at + 8),
        height: view.getUint32(at + 12),
        depth: view.getUint8(at + 16),
        colour: ![0, 4].includes(view.getUint8(at + 17)),
      };
    } else if (kind === "IDAT") {
      pixels = true;
    } else if (kind === "IEND") {
      break;
    }
    at = end + 4;
  }
  if (!pixels) throw new Broken("truncated", "is a PNG without a picture");
  return header;
}

function bmp(view: DataView): ImageHeader {
  const offset = view.getUint32(10, true);
  const size = view.getUint32(14, true);
  const old = size === 12;
  const none = (): Broken => new Broken("not_an_image", "starts like a BMP image but is none");
  if (!old && size < 40) throw none();
  const width = old ? view.getUint16(18, true) : view.getInt32(18, true);
  // A negative height: stored from the top down.
  const height = Math.abs(old ? view.getUint16(20, true) : view.getInt32(22, true));
  const bits = view.getUint16(old ? 24 : 28, true);
  const compression = old ? 0 : view.getUint32(30, true);
  if (width <= 0 || !height || ![1, 4, 8, 16, 24, 32].includes(bits)) throw none();
  const row = Math.floor((width * bits + 31) / 32) * 4;
  if (![1, 2].includes(compression) && offset + row * height > view.byteLength) {
    throw new Broken("truncated", "is cut off inside its BMP pixels");
  }
  return { format: "bmp", width, height, depth: 8, colour: true };
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

function crc32(data: Uint8Array): number {
  let c = 0xffffffff;
  for (const byte of data) c = CRC_TABLE[(c ^ byte) & 0xff]! ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}
