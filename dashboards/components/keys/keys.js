// Keys of every page, and a new drawing where its theme changes. Text comes from Python and is set as text, never as HTML.

const isTyping = (target) => target.closest?.("input:not([type=range]), textarea, select, [contenteditable=true], [role=combobox]") !== null;

const searchField = () => {
  const fields = [...document.querySelectorAll("input[type=text], input[type=search]")].filter((field) => field.offsetParent !== null);
  const named = fields.filter((field) => /^(search|find)/i.test(field.getAttribute("aria-label") ?? ""));
  return named[0] ?? null;
};

// The background of the page; it changes when the system's theme changes, and when the reader chooses another.
const background = (app) => getComputedStyle(app).backgroundColor;

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  const dialog = parentElement.querySelector("dialog");
  const list = parentElement.querySelector("dl");
  const status = parentElement.querySelector(".status");
  list.replaceChildren();
  for (const [key, meaning] of data.keys) {
    list.append(Object.assign(document.createElement("dt"), { textContent: key }));
    list.append(Object.assign(document.createElement("dd"), { textContent: meaning }));
  }
  const show = () => dialog.showModal();
  parentElement.querySelector(".open").onclick = show;
  parentElement.querySelector(".close").onclick = () => dialog.close();

  const pressed = (event) => {
    const target = event.composedPath()[0];
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || isTyping(target)) return;
    if (event.key === "?") {
      event.preventDefault();
      if (dialog.open) dialog.close(); else show();
    } else if (event.key === "/" && !dialog.open) {
      const field = searchField();
      event.preventDefault();
      if (field) { field.focus(); field.select(); } else status.textContent = "This page has no search field.";
    }
  };
  document.addEventListener("keydown", pressed);
  // Streamlit changes its own colours; what Python drew for the other theme has to be drawn again.
  const app = document.querySelector('[data-testid="stApp"]');
  let shown = app && background(app);
  const themed = new MutationObserver(() => {
    if (background(app) === shown) return;
    shown = background(app);
    setTriggerValue("theme", shown);
  });
  if (app) themed.observe(app, { attributes: true, attributeFilter: ["class", "style"] });
  return () => {
    document.removeEventListener("keydown", pressed);
    themed.disconnect();
  };
}
