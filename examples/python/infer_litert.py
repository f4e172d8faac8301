"""Read smear fields with an allsub-edge .tflite file, ai-edge-litert and numpy alone.

    python infer_litert.py MODEL.tflite FIELD...

A FIELD is a .npy file (uint8 RGB, H x W x 3) or a picture that Pillow opens. One JSON line each.
Research tool, not a medical device: no diagnosis or treatment may rest on it.
"""

import hashlib
import json
import re
import sys
import zipfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from quality import reasons


def read(path):
    """A field as uint8 RGB (H, W, 3)."""
    if path.endswith(".npy"):  # how a program hands over what its camera gave
        field = np.load(path)
    else:
        from PIL import Image, ImageOps  # the only line that needs Pillow

        field = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    if field.dtype != np.uint8 or field.shape[2:] != (3,) or min(field.shape[:2]) < 32:
        raise ValueError("is not 8-bit RGB of at least 32 x 32 pixels")
    if (field == field[:, :, :1]).all():
        raise ValueError("is a grey image: give the colour original")
    return field


def bands(a, size=224):
    """Exact sums over `size` equal bands of the rows, in units of 1/size of a row."""
    whole, part = np.divmod(np.arange(size + 1) * len(a), size)
    below = np.insert(a.cumsum(0), 0, 0, axis=0)[whole] * size
    return np.diff(below + part[:, None, None] * a[np.minimum(whole, len(a) - 1)], axis=0)


def squash(rgb):
    """Resize rule area-exact/1: whole numbers only, half rounds up."""
    n = rgb.shape[0] * rgb.shape[1]
    sums = bands(bands(rgb.astype(np.int64)).swapaxes(0, 1)).swapaxes(0, 1)
    return ((2 * sums + n) // (2 * n)).astype(np.uint8)


def answer(small, probabilities, distance, mask, manifest):
    """What may be said about a field: docs/embedding.md, "From numbers to an answer"."""
    if not np.isfinite([*probabilities, distance]).all():
        raise ValueError("the model's answer is no number: do not use it")
    why = reasons(small, mask, distance, manifest["calibration"])
    p = {c: round(float(v), 6) for c, v in zip(manifest["classes"], probabilities, strict=True)}
    top = max(p, key=p.get)
    limit = manifest["calibration"]["conformal"]
    chosen = [c for c in p if p[c] >= 1 - limit[c] - 1e-6] if limit else [top]
    status = "unfit" if why else "ok" if chosen == [top] else "uncertain"
    answer = {"status": status, "label": top if status == "ok" else None, "top": top}
    return answer | {"probabilities": p, "prediction_set": chosen, "reasons": why}


model, *paths = sys.argv[1:]
data = np.fromfile(model, np.uint8).tobytes()
seal = re.search(rb"allsub_edge_digest.{0,8}?sha256:([0-9a-f]{64})", data, re.DOTALL)
sealed = seal and data[: seal.start(1)] + b"0" * 64 + data[seal.end(1) :]
if not seal or hashlib.sha256(sealed).hexdigest() != seal[1].decode():
    sys.exit(f"{model}: not an allsub-edge model file, or damaged: copy it again")
runner = Interpreter(model_content=data, num_threads=1).get_signature_runner()
manifest = json.loads(zipfile.ZipFile(model).read("allsub_edge_manifest.json"))
known = {"schema": "allsub-edge/model/1", "interface": "field", "resize": "area-exact/1"}
if any(manifest[key] != value for key, value in known.items()):
    sys.exit(f"{model}: made for another version of this program")
for path in paths:
    try:
        small = squash(read(path))
        out = runner(field=small[None])
        found = [out[name] for name in ("probabilities", "domain_distance", "mask")]
        result = answer(small, *(value[0] for value in found), manifest)
    except (OSError, ValueError, SyntaxError) as error:  # what numpy and Pillow raise
        result = {"status": "error", "error": str(error)}
    print(json.dumps({"source": path} | result))
