// The tabs: what stands below the slider. Those of this component are shown at once; classes, images and table are the page's.

const TABS = { mosaic: "Mosaic", classes: "Classes", confusion: "Confusion", confidence: "Confidence", map: "Map", images: "Gallery", table: "Table", elsewhere: "Elsewhere" };

class Tabs {
  constructor(root, choose) {
    this.root = root;
    this.buttons = Object.entries(TABS).map(([view, text]) => {
      const button = element("button", { type: "button", "data-view": view }, text);
      button.addEventListener("click", () => choose(view));
      return button;
    });
    root.querySelector(".tabs").replaceChildren(...this.buttons);
  }

  // `lacking`: what this run has nothing for.
  show(view, lacking) {
    this.root.dataset.view = view;
    this.root.classList.toggle("outside", !this.root.querySelector(`[data-panel="${view}"]`));
    for (const button of this.buttons) {
      button.setAttribute("aria-pressed", button.dataset.view === view);
      button.hidden = lacking.includes(button.dataset.view);
    }
    for (const panel of this.root.querySelectorAll("[data-panel]")) panel.classList.toggle("on", panel.dataset.panel === view);
  }
}
