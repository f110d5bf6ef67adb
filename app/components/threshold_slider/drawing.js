// The number of the page's drawing that the browser has made; events carry it.

export default function ({ data }) {
  globalThis[Symbol.for("dmpo_explore.drawing")] = data.drawing;
}
