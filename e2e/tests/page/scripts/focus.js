const e = document.activeElement;
const name = e.dataset.bucket ?? e.getAttribute("href") ?? e.id ?? e.tagName;
const box = e.getBoundingClientRect();
const seen = getComputedStyle(e).outlineStyle !== "none" && box.top >= 0 && box.bottom <= innerHeight;
return [name, seen];
