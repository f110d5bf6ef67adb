// The slider's component: it hands what comes to the slider's code (slider.js), which is sent once, apart from it.

const slider = (globalThis[Symbol.for("dmpo_explore.slider")] ??= { waiting: new Map() });

export default function ({ data, parentElement, setTriggerValue }) {
  const draw = () => slider.draw(parentElement, data, setTriggerValue);
  if (slider.draw) draw();
  else slider.waiting.set(parentElement, draw);
  return () => slider.waiting.delete(parentElement) || slider.close?.(parentElement);
}
