/**
 * The HTTP service.
 *
 *   POST /predict   body: the bytes of one JPEG or PNG -> 200 and a prediction record
 *                   header `x-source` or `?source=NAME` names the field in the record
 *   GET  /health    -> 200 and what runs here; 503 while it shuts down
 *
 * Errors are JSON, `{"error": {"code", "message"}}`. A field that cannot be read gets 422 and the
 * record with its `error`, so that the client need not tell two forms apart.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";

import { NOT_A_MEDICAL_DEVICE } from "../../browser/src/core/classes.js";
import type { Reader } from "./index.js";

export interface ServiceOptions {
  /** Largest body in bytes; 32 MiB holds a 12-megapixel PNG. */
  maxBytes?: number;
  /** Most requests that may wait or run; further ones get 503. */
  maxWaiting?: number;
}

export interface Service {
  readonly server: Server;
  /** Take no new request, answer those that are under way, then close the model. */
  stop(): Promise<void>;
}

class HttpError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

export function createService(reader: Reader, options: ServiceOptions = {}): Service {
  const { maxBytes = 32 * 2 ** 20, maxWaiting = 16 } = options;
  let stopping = false;
  let waiting = 0;

  const predict = async (request: IncomingMessage, url: URL): Promise<[number, unknown]> => {
    if (waiting >= maxWaiting) {
      throw new HttpError(503, "busy", "too many fields are waiting: try again in a second");
    }
    waiting++;
    try {
      const body = await readBody(request, maxBytes);
      const given = url.searchParams.get("source") ?? request.headers["x-source"];
      const source = typeof given === "string" && given ? given.slice(0, 500) : "<body>";
      const prediction = await reader.predict(body, source);
      return [prediction.error ? 422 : 200, prediction];
    } finally {
      waiting--;
    }
  };

  const route = async (request: IncomingMessage): Promise<[number, unknown]> => {
    const url = new URL(request.url ?? "/", "http://localhost");
    const asked = `${request.method} ${url.pathname}`;
    if (asked === "POST /predict") return predict(request, url);
    if (asked === "GET /health") {
      const status = stopping ? "stopping" : "ok";
      const health = { status, model: reader.model, waiting, note: NOT_A_MEDICAL_DEVICE };
      return [stopping ? 503 : 200, health];
    }
    if (["/predict", "/health"].includes(url.pathname)) {
      throw new HttpError(405, "wrong_method", `${asked}: use POST /predict or GET /health`);
    }
    throw new HttpError(404, "not_found", `${asked}: use POST /predict or GET /health`);
  };

  const server = createServer((request, response) => {
    route(request).then(
      ([status, value]) => send(response, status, value),
      (error: unknown) => {
        if (!(error instanceof HttpError)) console.error(error);
        const { status, code, message } =
          error instanceof HttpError
            ? error
            : new HttpError(500, "internal", "the service failed; its log tells more");
        // The rest of a refused body is not read: the connection cannot be used again.
        if (!request.complete) response.setHeader("connection", "close");
        send(response, status, { error: { code, message } });
      },
    );
  });
  // A client that trickles its body may hold a connection for this long, not for ever.
  server.requestTimeout = 30_000;

  const stop = async (): Promise<void> => {
    stopping = true;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeIdleConnections();
    await closed;
    await reader.close();
  };
  return { server, stop };
}

async function readBody(request: IncomingMessage, maxBytes: number): Promise<Uint8Array> {
  const tooLarge = new HttpError(
    413,
    "too_large",
    `more than the ${maxBytes} bytes that a field may have here: send a smaller or JPEG field`,
  );
  if (Number(request.headers["content-length"] ?? 0) > maxBytes) throw tooLarge;
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > maxBytes) throw tooLarge;
    parts.push(part);
  }
  if (!length) throw new HttpError(400, "empty", "no body: POST the bytes of a JPEG or PNG file");
  return Buffer.concat(parts);
}

function send(response: ServerResponse, status: number, value: unknown): void {
  const body = JSON.stringify(value) + "\n";
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(body),
    "x-content-type-options": "nosniff",
  });
  response.end(body);
}
