// Tells the page once that the browser has drawn it and has nothing else to do.
const LONGEST_MS = 2000;

export default function ({ setTriggerValue }) {
  let isOpen = true;
  const tell = () => isOpen && setTriggerValue("drawn", true);
  // The second frame begins when the first is on screen.
  requestAnimationFrame(() => requestAnimationFrame(() => requestIdleCallback(tell, { timeout: LONGEST_MS })));
  return () => { isOpen = false; };
}
