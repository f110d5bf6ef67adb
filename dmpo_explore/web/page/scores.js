// Scores of one exit's logits, as the library computes them, and where a policy stops.

// A number rounded to half precision, as records keep logits.
const half = (x) => {
  if (x === 0 || !Number.isFinite(x)) return x;
  const step = 2 ** (Math.max(-14, Math.floor(Math.log2(Math.abs(x)))) - 10), whole = x / step, low = Math.floor(whole);
  const rest = whole - low;
  return (rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low) * step;
};

/** Logits (C) → { label, score, ranked }: the class, the policy's score, and all probabilities. */
export const scoresOf = (logits, name, temperature) => {
  const label = logits.indexOf(Math.max(...logits));
  const used = temperature ? Array.from(logits, (x) => half(x) / temperature) : Array.from(logits);
  const highest = Math.max(...used), weights = used.map((x) => Math.exp(x - highest));
  const total = weights.reduce((sum, w) => sum + w, 0), ranked = weights.map((w) => w / total);
  const others = Math.max(0, ...ranked.filter((_, i) => i !== label));
  const score = {
    confidence: () => Math.max(...ranked),
    margin: () => Math.max(...ranked) - others,
    entropy: () => ranked.reduce((sum, p) => sum - (p > 0 ? p * Math.log(p) : 0), 0),
  }[name]();
  return { label, score: Math.fround(score), ranked };
};

/** Whether an image exits with this score. */
export const exitsWith = (score, threshold, falling) => {
  const level = Math.fround(threshold);
  return falling ? score <= level : score >= level;
};
