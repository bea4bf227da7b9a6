// The queue as rows of small pictures, each with the colour of its prompt below it.

const LEAST = 34; // width of a picture on the page, in CSS pixels
const GAP = 3;
const BAR = 3;

/** `bitmap` holds `count` pictures side by side; `colours` are the numbers of their prompts' colours. */
export function drawStrip(canvas, bitmap, count, colours) {
  const scale = Math.min(2, devicePixelRatio || 1);
  const width = canvas.clientWidth || 600;
  const each = bitmap.width / count;
  const columns = Math.max(1, Math.min(count, Math.floor((width + GAP) / (LEAST + GAP))));
  const rows = Math.ceil(count / columns);
  const across = Math.ceil(count / rows);
  const w = (width - GAP * (across - 1)) / across;
  const h = (w * bitmap.height) / each;
  const line = h + GAP + BAR;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round((rows * (line + GAP) - GAP) * scale);
  const style = getComputedStyle(canvas);
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = w * scale < each;
  pen.scale(scale, scale);
  for (let k = 0; k < count; k += 1) {
    const x = (k % across) * (w + GAP);
    const y = Math.floor(k / across) * (line + GAP);
    pen.drawImage(bitmap, k * each, 0, each, bitmap.height, x, y, w, h);
    pen.fillStyle = style.getPropertyValue(`--c${colours[k]}`);
    pen.fillRect(x, y + h + GAP - 1, w, BAR);
  }
  bitmap.close();
}
