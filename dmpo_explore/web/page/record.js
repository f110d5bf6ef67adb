// The record: labels, predictions and scores of many images, and what they give at a threshold.

import { bytesOf } from "./fetching.js";
import { exitsWith } from "./scores.js";

const ARRAYS = { uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array };

export const readRecord = async ({ record }) => {
  const read = async (file) => new ARRAYS[file.type](await bytesOf(file));
  const [labels, predictions, scores] = await Promise.all(["labels", "predictions", "scores"].map((name) => read(record[name])));
  return { images: record.images, exits: record.exits, labels, predictions, scores };
};

/** The exit of image `row`, counted from 0. */
export const exitOf = ({ exits, scores }, row, threshold, falling) => {
  for (let k = 0; k < exits - 1; k++) if (exitsWith(scores[row * exits + k], threshold, falling)) return k;
  return exits - 1;
};

/** { yes, no }: images that exit at each exit, correct and incorrect. */
export const countsOf = (record, threshold, falling) => {
  const { images, exits, labels, predictions } = record, yes = new Array(exits).fill(0), no = new Array(exits).fill(0);
  for (let row = 0; row < images; row++) {
    const k = exitOf(record, row, threshold, falling);
    (predictions[row * exits + k] === labels[row] ? yes : no)[k] += 1;
  }
  return { yes, no };
};

/** Accuracy, mean compute, mean exit and the share before the last exit; `fractions` is the compute of every exit. */
export const numbersOf = ({ yes, no }, fractions) => {
  const at = yes.map((n, k) => n + no[k]), total = at.reduce((sum, n) => sum + n, 0);
  const mean = (values) => at.reduce((sum, n, k) => sum + n * values[k], 0) / total;
  return {
    at,
    total,
    accuracy: yes.reduce((sum, n) => sum + n, 0) / total,
    compute: mean(fractions),
    mean: mean(at.map((_, k) => k + 1)),
    early: 1 - at.at(-1) / total,
  };
};
