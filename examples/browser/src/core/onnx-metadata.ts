/**
 * The metadata of an ONNX file, read from its bytes without a protobuf library.
 *
 * An `.onnx` file is one serialised `ModelProto`. Only its top level is walked
 * (https://protobuf.dev/programming-guides/encoding/): a tag, then a varint, 4 or 8 bytes, or a
 * length and that many bytes. Field numbers are those of onnx.proto: ir_version 1, graph 7,
 * metadata_props 14 (key 1, value 2).
 */

const IR_VERSION = 1;
const GRAPH = 7;
const METADATA_PROPS = 14;
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

interface Entry {
  number: number;
  wire: number;
  payload: number;
  end: number;
}

/** Thrown where the bytes are no protobuf message. */
class NotAMessage extends Error {}

function readVarint(data: Uint8Array, at: number, end: number): [value: number, after: number] {
  let value = 0;
  let factor = 1;
  // Ten bytes hold 64 bits. Values above 2^53 lose precision here; they are never lengths.
  for (let count = 0; at < end && count < 10; count++) {
    const byte = data[at++]!;
    value += (byte & 0x7f) * factor;
    if (byte < 0x80) return [value, at];
    factor *= 128;
  }
  throw new NotAMessage("broken varint");
}

function* entries(data: Uint8Array, start = 0, end = data.length): Generator<Entry> {
  let at = start;
  while (at < end) {
    const [tag, afterTag] = readVarint(data, at, end);
    const number = Math.floor(tag / 8);
    const wire = tag % 8;
    let payload = afterTag;
    let after: number;
    if (wire === VARINT) {
      after = readVarint(data, payload, end)[1];
    } else if (wire === BYTES) {
      const [length, begin] = readVarint(data, payload, end);
      payload = begin;
      after = payload + length;
    } else if (wire === FIXED64 || wire === FIXED32) {
      after = payload + (wire === FIXED64 ? 8 : 4);
    } else {
      throw new NotAMessage(`unknown wire type ${wire}`);
    }
    if (number === 0 || after > end) throw new NotAMessage("broken entry");
    yield { number, wire, payload, end: after };
    at = after;
  }
}

/** True if the bytes walk as a message with an IR version and a graph. */
export function looksLikeOnnx(data: Uint8Array): boolean {
  let version = false;
  let graph = false;
  try {
    for (const entry of entries(data)) {
      version ||= entry.number === IR_VERSION && entry.wire === VARINT;
      graph ||= entry.number === GRAPH && entry.wire === BYTES;
    }
  } catch (error) {
    if (error instanceof NotAMessage) return false;
    throw error;
  }
  return version && graph;
}

/** Metadata pairs in file order; call it only on bytes that `looksLikeOnnx`. */
export function metadata(data: Uint8Array): [key: string, value: Uint8Array][] {
  const text = new TextDecoder();
  const found: [string, Uint8Array][] = [];
  for (const entry of entries(data)) {
    if (entry.number !== METADATA_PROPS || entry.wire !== BYTES) continue;
    let key = "";
    let value = new Uint8Array();
    for (const item of entries(data, entry.payload, entry.end)) {
      const bytes = data.slice(item.payload, item.end);
      if (item.number === 1) key = text.decode(bytes);
      else if (item.number === 2) value = bytes;
    }
    found.push([key, value]);
  }
  return found;
}
