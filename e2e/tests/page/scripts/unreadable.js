const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const over = (color, ground) => {
    canvas.fillStyle = `rgb(${ground})`;
    canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const ground = (element) => element
    ? over(getComputedStyle(element).backgroundColor, ground(element.parentElement))
    : [255, 255, 255];
const light = (rgb) => rgb
    .map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
const found = [];
for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const behind = ground(element);
    const pair = [light(over(style.color, behind)), light(behind)].sort((a, b) => b - a);
    const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
    const needed = parseFloat(style.fontSize) >= 24 ? 3 : 4.5;
    if (contrast < needed) found.push(`${element.textContent}: ${contrast.toFixed(2)}`);
}
return found;
