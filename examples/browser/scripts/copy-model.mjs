/* Copies the model into public/: the shipped one, or the file that ALLSUB_MODEL names. */

import { copyFileSync, existsSync, mkdirSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const models = join(here, "../../../allsub_edge/models");

/** As the Python package chooses: of several int8 files the last by name. */
function shipped() {
  const names = existsSync(models) ? readdirSync(models) : [];
  const fitting = names.filter((name) => name.includes("int8") && name.endsWith(".onnx")).sort();
  return fitting.length ? join(models, fitting.at(-1)) : null;
}

const model = process.env.ALLSUB_MODEL || shipped();
if (!model || !existsSync(model)) {
  console.error(
    model
      ? `${model}: no such model file: check ALLSUB_MODEL`
      : `no *int8*.onnx in ${models}: name a model file with ALLSUB_MODEL=FILE`,
  );
  process.exit(1);
}
const target = join(here, "../public/model.onnx");
mkdirSync(dirname(target), { recursive: true });
copyFileSync(model, target);
console.log(`model: ${model}`);
