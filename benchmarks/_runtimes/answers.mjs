// Exits and labels of an export's single graph in onnxruntime-node or onnxruntime-web, image by image.
// In: node answers.mjs PACKAGE FOLDER_OF_node_modules GRAPH IMAGES SIDE; IMAGES are little-endian float32 (N, 3, SIDE, SIDE).
// Out: JSON on stdout: version, exit (N, from 0), label (N).
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [name, modules, graph, file, side] = process.argv.slice(2);
const require = createRequire(join(modules, "resolved-from-here.js"));
const { version } = JSON.parse(readFileSync(join(modules, "node_modules", name, "package.json"), "utf8"));
const ort = require(name);
if (ort.env?.wasm) ort.env.wasm.numThreads = 1;
const bytes = readFileSync(file), size = 3 * side * side;
const images = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
const session = await ort.InferenceSession.create(readFileSync(graph));
const found = { version, exit: [], label: [] };
for (let first = 0; first < images.length; first += size) {
  const input = new ort.Tensor("float32", images.slice(first, first + size), [1, 3, Number(side), Number(side)]);
  const { logits, exit } = await session.run({ images: input });
  found.exit.push(Number(exit.data[0]));
  found.label.push(logits.data.indexOf(Math.max(...logits.data)));
}
console.log(JSON.stringify(found));
