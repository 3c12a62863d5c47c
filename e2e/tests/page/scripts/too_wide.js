const width = document.documentElement.clientWidth;
const wide = [...document.body.querySelectorAll("*")]
    .filter((e) => e.closest(".track") === null && e.getBoundingClientRect().right > width + 0.5)
    .map((e) => `${e.tagName} ${e.id} ${e.className}: ${e.getBoundingClientRect().right}`);
if (document.documentElement.scrollWidth > width) wide.push("the page scrolls sideways");
return wide;
