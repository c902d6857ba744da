// Tabs as the ARIA practices have them: arrow keys go from tab to tab, one panel is there.

export class Tabs {
  constructor(list) {
    const all = [...list.querySelectorAll("[role=tab]")];
    for (const tab of all) panelOf(tab).hidden = true;
    this.tabs = all.filter((tab) => !tab.hidden);
    for (const tab of this.tabs) {
      tab.addEventListener("click", () => this.open(tab));
      tab.addEventListener("keydown", (event) => this.onKey(event, tab));
    }
    this.open(this.tabs[0]);
  }

  open(tab, takeFocus = false) {
    for (const other of this.tabs) {
      const isOpen = other === tab;
      other.setAttribute("aria-selected", isOpen);
      other.tabIndex = isOpen ? 0 : -1;
      panelOf(other).hidden = !isOpen;
    }
    if (takeFocus) tab.focus();
  }

  onKey(event, tab) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const count = this.tabs.length;
    this.open(this.tabs[(this.tabs.indexOf(tab) + step + count) % count], true);
  }
}

const panelOf = (tab) => document.getElementById(tab.getAttribute("aria-controls"));
