// The record: the tiles' labels, answers, scores and exits, and what all images give at a position of the slider.

import { bytesOf } from "./fetching.js";

const ARRAYS = { uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array };

/** { n, exits: K, labels, predictions, scores, exitOf(i, place), correct(i, k) } of the tiles. */
export const readTiles = async ({ tiles, flops }) => {
  const read = async (file) => new ARRAYS[file.type](await bytesOf(file));
  const names = ["labels", "predictions", "scores", "exits"], n = tiles.rows.length, K = flops.length;
  const [labels, predictions, scores, exits] = await Promise.all(names.map((name) => read(tiles[name])));
  const correct = (i, k) => predictions[i * K + k] === labels[i];
  return { n, exits: K, labels, predictions, scores, correct, exitOf: (i, place) => exits[place * n + i] };
};

/** { yes, no, at, total, accuracy, compute, mean, early } of all images, for every position of the slider. */
export const numbersOf = ({ slider, flops, reference_flops: reference }) => slider.counts.map((row) => {
  const yes = flops.map((_, k) => row[2 * k]), no = flops.map((_, k) => row[2 * k + 1]), at = yes.map((count, k) => count + no[k]);
  const sum = (values) => values.reduce((all, value) => all + value, 0), total = sum(at);
  return {
    yes,
    no,
    at,
    total,
    accuracy: sum(yes) / total,
    compute: sum(at.map((count, k) => count * flops[k])) / reference / total,
    mean: sum(at.map((count, k) => count * (k + 1))) / total,
    early: 1 - at.at(-1) / total,
  };
});
