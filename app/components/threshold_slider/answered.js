// The number of the last event whose answer the browser has drawn; the events that follow carry it (state/events.py).

export default function ({ data }) {
  (globalThis[Symbol.for("dmpo_explore.events")] ??= { sent: 0 }).answered = data.event;
}
