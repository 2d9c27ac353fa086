// Fades the right edge of what continues beyond it: wide tables, code and formulas in a narrow window.
window.addEventListener("load", () => {
  const update = box => box.classList.toggle("continues", box.scrollWidth - box.clientWidth - box.scrollLeft > 2);
  const sizes = new ResizeObserver(entries => entries.forEach(entry => update(entry.target)));
  const wide = ".pst-scrollable-table-container, div.highlight pre, div.math, article figure:not(:has(figcaption))";
  document.querySelectorAll(wide).forEach(box => {
    box.addEventListener("scroll", () => update(box), { passive: true });
    sizes.observe(box);
  });
});
