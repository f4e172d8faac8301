/** The command: `serve`, or `read FILE...` (one JSON record per line). */


import { AppError, openReader } from "./index.js";
import { createService } from "./service.js";

const USAGE = `usage: main.js serve             listens on HOST (127.0.0.1) and PORT (8077)
       main.js read FILE...      one JSON record per line
The model is the shipped one, or the file that ALLSUB_MODEL names.`;

async function serve(): Promise<void> {
  const host = process.env.HOST ?? "127.0.0.1";
  const service = createService(await openReader(process.env.ALLSUB_MODEL));
  const { server } = service;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(Number(process.env.PORT ?? 8077), host, resolve);
  });
  const address = server.address();
  const port = typeof address === "object" ? address?.port : address;
  console.log(`listening on http://${host}:${port}`);
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      console.log(`${signal}: answering what is under way, then stopping`);
      void service.stop().then(() => process.exit(0));
    });
  }
}

async function read(files: readonly string[]): Promise<void> {
  const reader = await openReader(process.env.ALLSUB_MODEL);
  let failed = 0;
  for (const file of files) {
    const prediction = await reader.predictFile(file);
    if (prediction.error) failed++;
    console.log(JSON.stringify(prediction));
  }
  await reader.close();
  process.exitCode = failed ? 1 : 0;
}

const [verb, ...rest] = process.argv.slice(2);
try {
  if (verb === "serve" && !rest.length) await serve();
  else if (verb === "read" && rest.length) await read(rest);
  else {
    console.error(USAGE);
    process.exitCode = 2;
  }
} catch (error) {
  const known = error instanceof AppError || (error as NodeJS.ErrnoException).code === "EADDRINUSE";
  console.error(known ? (error as Error).message : error);
  process.exitCode = 2;
}
