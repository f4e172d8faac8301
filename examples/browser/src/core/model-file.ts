/**
 * One file that carries a model, its manifest and a digest over all of its bytes.
 *
 * The digest is the SHA-256 of the whole file with the digest's own 64 hex characters taken as
 * zeros. It is checked before any parser or engine sees the file.
 */

import { ModelFileError } from "./errors.js";
import { parseManifest, type Manifest } from "./manifest.js";
import { looksLikeOnnx, metadata } from "./onnx-metadata.js";

const MANIFEST_KEY = "allsub_edge_manifest";
const DIGEST_KEY = "allsub_edge_digest";
const PREFIX = "sha256:";
/** Bytes of framing (protobuf: tag and length) allowed between the key and its value. */
const FRAMING = 8;

export interface ModelFile {
  /** The bytes that were verified; the engine gets these. */
  data: Uint8Array<ArrayBuffer>;
  manifest: Manifest;
  /** Hex SHA-256 of the file as it is, as `sha256sum` prints it. */
  sha256: string;
}

/** First place of an ASCII text in `data` at or after `from`, or -1. */
function find(data: Uint8Array, needle: string, from = 0): number {
  const first = needle.charCodeAt(0);
  for (let at = data.indexOf(first, from); at >= 0; at = data.indexOf(first, at + 1)) {
    let k = 1;
    while (k < needle.length && data[at + k] === needle.charCodeAt(k)) k++;
    if (k === needle.length) return at;
  }
  return -1;
}

const ascii = (bytes: Uint8Array): string => String.fromCharCode(...bytes);

export async function sha256(data: Uint8Array<ArrayBuffer>): Promise<string> {
  // Browsers offer it to secure contexts only; without it the file cannot be trusted.
  if (!globalThis.crypto?.subtle) {
    throw new ModelFileError(
      "no_crypto",
      "this page was not opened over https or from localhost, so the browser offers no SHA-256 " +
        "to check the model with: open it over https or from localhost",
    );
  }
  const hash = await globalThis.crypto.subtle.digest("SHA-256", data);
  return Array.from(new Uint8Array(hash), (b) => b.toString(16).padStart(2, "0")).join("");
}

function damaged(source: string): ModelFileError {
  return new ModelFileError(
    "damaged",
    `${source}: the model file is damaged or was edited (its digest does not fit its content): ` +
      "copy or download it again",
  );
}

/** Where the 64 hex characters of the digest start. */
function slot(data: Uint8Array, source: string): number {
  const at = find(data, DIGEST_KEY);
  if (at < 0 && find(data, MANIFEST_KEY) < 0) {
    const what = data.length ? "has no allsub-edge manifest inside" : "is empty";
    throw new ModelFileError(
      "not_a_model_file",
      `${source}: not an allsub-edge model file, it ${what}: name one that ` +
        "`allsub-edge export` made, or copy it again if it was cut short",
    );
  }
  if (at < 0 || find(data, DIGEST_KEY, at + 1) >= 0) throw damaged(source);
  const after = at + DIGEST_KEY.length;
  const hex = find(data, PREFIX, after) + PREFIX.length;
  if (hex < after + PREFIX.length || hex - PREFIX.length - after > FRAMING) throw damaged(source);
  if (!/^[0-9a-f]{64}$/.test(ascii(data.subarray(hex, hex + 64)))) throw damaged(source);
  return hex;
}

/**
 * Verify a model file's bytes and read its manifest.
 *
 * @param source how messages name the file.
 * @throws ModelFileError `not_a_model_file`, `damaged`, `unsupported_format`, `no_crypto`, and the
 * codes of `parseManifest`.
 */
export async function openModelFile(
  data: Uint8Array<ArrayBuffer>,
  source = "the model file",
): Promise<ModelFile> {
  const at = slot(data, source);
  const zeroed = data.slice();
  zeroed.fill("0".charCodeAt(0), at, at + 64);
  if ((await sha256(zeroed)) !== ascii(data.subarray(at, at + 64))) throw damaged(source);
  if (!looksLikeOnnx(data)) {
    throw new ModelFileError(
      "unsupported_format",
      `${source}: this program reads model files in the ONNX format only`,
    );
  }
  const found = metadata(data).filter(([key]) => key === MANIFEST_KEY);
  if (found.length !== 1) {
    throw new ModelFileError(
      "not_a_model_file",
      `${source}: has ${found.length} manifests inside, not one`,
    );
  }
  try {
    const manifest = parseManifest(new TextDecoder().decode(found[0]![1]));
    return { data, manifest, sha256: await sha256(data) };
  } catch (error) {
    if (error instanceof ModelFileError) {
      throw new ModelFileError(error.code, `${source}: ${error.message}`);
    }
    throw error;
  }
}
