// Shows the entry of this page in the sidebar: after loading, and when the drawer of a narrow window opens.
(() => {
  const reveal = () => {
    const entry = document.querySelector("nav.bd-docs-nav [aria-current=page]")
      ?? [...document.querySelectorAll("nav.bd-docs-nav li.current > a")].pop();
    if (!entry) return;
    let box = entry.parentElement;
    while (box && (box.scrollHeight <= box.clientHeight || !/auto|scroll/.test(getComputedStyle(box).overflowY))) {
      box = box.parentElement;
    }
    if (!box || box === document.documentElement || box === document.body) return;
    const outer = box.getBoundingClientRect(), inner = entry.getBoundingClientRect();
    const top = Math.max(outer.top, 0), bottom = Math.min(outer.bottom, window.innerHeight);
    if (inner.top < top || inner.bottom > bottom) {
      box.scrollTop += (inner.top + inner.bottom - top - bottom) / 2;
    }
  };
  window.addEventListener("load", () => {
    reveal();
    const drawer = document.getElementById("pst-primary-sidebar-modal");
    if (drawer) {
      new MutationObserver(() => drawer.open && requestAnimationFrame(reveal)).observe(drawer, { attributes: true });
    }
  });
})();
