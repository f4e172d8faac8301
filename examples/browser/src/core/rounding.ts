/** Rounding as Python's `round`: to the nearest decimal, an exact tie to the even digit. */

/** @param value finite, of a size that matters here (1e-20 and more, or 0). */
export function roundTo(value: number, digits: number): number {
  // toFixed works on the exact binary value, and takes the larger of two equally near decimals.
  const rounded = value.toFixed(digits);
  const exact = Math.abs(value).toFixed(100);
  const rest = exact.slice(exact.indexOf(".") + 1 + digits);
  if (!/^50*$/.test(rest)) return Number(rounded);
  const below = exact.slice(0, exact.length - rest.length);
  const tieToEven = "02468".includes(below.replace(/\.$/, "").at(-1)!) ? below : rounded;
  return Math.sign(value) * Math.abs(Number(tieToEven));
}
