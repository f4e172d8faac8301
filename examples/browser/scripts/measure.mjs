/*
 * Reads all fields of a folder in the built page and says how long it took.
 *
 *     node scripts/measure.mjs FOLDER [RECORDS.ndjson]
 *
 * First answer: from opening the page in a fresh browser profile to the first field's answer, with
 * the files served from this machine. Steady: sum of a record's times, over all fields after the
 * tenth.
 */

import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { give, open, start } from "../tests/page/harness.mjs";

const [folder, out] = process.argv.slice(2);
if (!folder) {
  console.error("usage: node scripts/measure.mjs FOLDER [RECORDS.ndjson]");
  process.exit(2);
}
const files = readdirSync(folder)
  .filter((name) => /\.(jpe?g|png|bmp)$/i.test(name))
  .sort()
  .map((name) => join(folder, name));

const stage = await start();
const firsts = [];
let records = [];
for (let round = 0; round < 3; round++) {
  const { page, context } = await open(stage);
  records = await give(page, files.slice(0, 1));
  firsts.push(Number(await page.getAttribute("#model", "data-first-answer-ms")));
  if (round === 2) {
    for (let at = 1; at < files.length; at += 20) {
      records.push(...(await give(page, files.slice(at, at + 20))));
    }
    console.log(`model opened in ${await page.getAttribute("#model", "data-open-ms")} ms`);
  }
  await context.close();
}
await stage.stop();

const middle = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
console.log(`first answer: ${firsts.join(", ")} ms`);
const steady = records.slice(10).filter(({ error }) => !error);
for (const stageName of ["decode", "prepare", "infer"]) {
  console.log(`${stageName}: ${middle(steady.map(({ timing_ms: t }) => t[stageName])).toFixed(1)} ms`);
}
const total = steady.map(({ timing_ms: t }) => t.decode + t.prepare + t.infer);
console.log(`steady, median of ${steady.length} fields: ${middle(total).toFixed(1)} ms`);
if (out) writeFileSync(out, records.map(({ mask: _, ...r }) => JSON.stringify(r) + "\n").join(""));
