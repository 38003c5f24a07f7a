"use strict";

const $ = (id) => document.getElementById(id);
const WIDTH = 640; // px of the camera's pictures that are sent
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
let card = { flags: {} };
let stream = null;

function say(text, failed = false) {
  $("message").textContent = text;
  $("message").classList.toggle("failed", failed);
}

function element(name, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

async function score(body) {
  const answer = await fetch(`/api/score?explain=${$("explain").checked ? 1 : 0}`, {
    method: "POST",
    headers: { "Content-Type": /^(image|video)\//.test(body.type) ? body.type : "application/octet-stream" },
    body,
  });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error.message);
  return content;
}

function draw(canvas, picture, frame) {
  canvas.width = frame.width;
  canvas.height = frame.height;
  const pen = canvas.getContext("2d");
  if (picture) pen.drawImage(picture, 0, 0, frame.width, frame.height);
  const line = Math.max(2, Math.round(Math.min(frame.width, frame.height) / 150));
  const size = Math.max(12, Math.round(Math.min(frame.width, frame.height) / 22));
  pen.lineWidth = line;
  pen.font = `600 ${size}px system-ui, sans-serif`;
  frame.faces.forEach((face, number) => {
    const [x, y, w, h] = face.box;
    const text = `${number + 1} ${face.decision} ${face.score.toFixed(2)}`;
    pen.strokeStyle = pen.fillStyle = face.decision === "live" ? "#1f6fb2" : "#c8460c";
    if (face.decision === "attack") pen.setLineDash([3 * line, 2 * line]);
    pen.strokeRect(x, y, w, h);
    pen.setLineDash([]);
    const wide = pen.measureText(text).width + size / 2;
    const left = Math.min(Math.max(x, 0), Math.max(frame.width - wide, 0));
    const top = Math.max(y - 1.4 * size, 0);
    pen.fillRect(left, top, wide, 1.4 * size);
    pen.fillStyle = "#ffffff";
    pen.fillText(text, left + size / 4, top + size);
  });
  const told = frame.faces.map((face) => `${face.decision}, score ${face.score.toFixed(2)}`);
  canvas.setAttribute("aria-label", `Picture with ${told.length || "no"} faces: ${told.join("; ")}`);
}

function image(source) {
  return new Promise((resolve, reject) => {
    const made = new Image();
    made.onload = () => resolve(made);
    made.onerror = () => reject(new Error("this browser cannot show the picture"));
    made.src = source;
  });
}

async function views(face) {
  const cell = element("div", "", "views");
  const crop = await image(face.crop);
  const seen = document.createElement("canvas");
  seen.width = seen.height = crop.width;
  seen.getContext("2d").drawImage(crop, 0, 0);
  seen.title = "what the model reads";
  cell.append(seen);
  if (!face.attention) return cell;
  const heat = await image(face.attention);
  const over = document.createElement("canvas");
  over.width = over.height = crop.width;
  const pen = over.getContext("2d");
  pen.drawImage(heat, 0, 0);
  const weight = pen.getImageData(0, 0, crop.width, crop.width);
  pen.drawImage(crop, 0, 0);
  const blended = pen.getImageData(0, 0, crop.width, crop.width);
  for (let i = 0; i < blended.data.length; i += 4) {
    const shown = 0.2 + 0.8 * (weight.data[i] / 255); // unattended parts become dark
    for (let c = 0; c < 3; c += 1) blended.data[i + c] *= shown;
  }
  pen.putImageData(blended, 0, 0);
  over.title = "bright: what the model looks at";
  cell.append(over);
  return cell;
}

async function table(frame) {
  if (!frame.faces.length) return element("p", "No face was found.");
  const explained = frame.faces.some((face) => face.crop);
  const made = document.createElement("table");
  const head = document.createElement("tr");
  const titles = ["face", "decision", "score", "remarks", ...(explained ? ["what the model reads"] : [])];
  head.append(...titles.map((title) => { const cell = element("th", title); cell.scope = "col"; return cell; }));
  made.append(head);
  for (const [number, face] of frame.faces.entries()) {
    const row = document.createElement("tr");
    const remarks = face.flags.map((flag) => card.flags[flag] || flag).join("; ");
    row.append(element("td", String(number + 1)), element("td", face.decision, face.decision));
    row.append(element("td", face.score.toFixed(3)), element("td", remarks || "–"));
    if (explained) {
      const cell = document.createElement("td");
      cell.append(await views(face));
      if (!face.attention) cell.append(element("span", "an exported file gives no attention", "small"));
      row.append(cell);
    }
    made.append(row);
  }
  return made;
}

async function show(file) {
  const result = $("result").content.firstElementChild.cloneNode(true);
  result.querySelector("h3").textContent = file.name;
  $("results").prepend(result);
  try {
    const answer = await score(file);
    const picture = answer.kind === "image" ? await createImageBitmap(file).catch(() => null) : null;
    const place = result.querySelector(".faces");
    const canvas = result.querySelector("canvas");
    if (picture) draw(canvas, picture, answer.frames[0]);
    else canvas.parentElement.remove();
    for (const frame of answer.frames) {
      if (answer.frames.length > 1) place.append(element("h3", `frame ${frame.frame}`));
      place.append(await table(frame));
    }
    if (answer.error) place.append(element("p", `The video broke off: ${answer.error}`, "attack"));
  } catch (error) {
    result.querySelector("figure").remove();
    result.querySelector(".faces").append(element("p", error.message, "attack"));
  }
}

async function showAll(files) {
  stop();
  for (const [number, file] of [...files].entries()) {
    say(`Scoring ${number + 1} of ${files.length}.`);
    await show(file);
  }
  say(`${files.length} scored.`);
}

function stop() {
  if (stream) stream.getTracks().forEach((track) => track.stop());
  stream = null;
  $("live").hidden = true;
  $("camera").setAttribute("aria-pressed", "false");
  $("camera").textContent = "use the camera";
}

async function start() {
  if (!navigator.mediaDevices) throw new Error("the browser gives the camera only to https and to localhost");
  const own = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } }, audio: false });
  stream = own;
  $("video").srcObject = own;
  await $("video").play();
  $("live").hidden = false;
  $("camera").setAttribute("aria-pressed", "true");
  $("camera").textContent = "stop the camera";
  const taken = document.createElement("canvas");
  while (stream === own) {
    const share = Math.min(1, WIDTH / $("video").videoWidth);
    taken.width = Math.round(share * $("video").videoWidth);
    taken.height = Math.round(share * $("video").videoHeight);
    taken.getContext("2d").drawImage($("video"), 0, 0, taken.width, taken.height);
    const body = await new Promise((resolve) => taken.toBlob(resolve, "image/jpeg", 0.95));
    try {
      const answer = await score(body);
      if (stream !== own) return;
      draw($("preview"), taken, answer.frames[0]);
      $("live").querySelector(".faces").replaceChildren(await table(answer.frames[0]));
      say(`${(1000 * answer.seconds).toFixed(0)} ms a picture.`);
    } catch (error) {
      say(error.message, true);
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}

function percent(value) {
  return `${(100 * value).toFixed(1)} %`;
}

function describe(given) {
  card = given;
  $("model").textContent = `${given.name}: ${given.model}, ${(given.parameters / 1e6).toFixed(2)} million parameters, ` +
    `reads faces at ${given.image_size} px.`;
  const { caution, datasets } = given.trained_on;
  $("caution").textContent = caution ? `Caution: ${caution}.` : "";
  $("caution").hidden = !caution;
  const rows = [
    ["trained on", datasets.join(", ") || "not recorded"],
    ["protocol", given.protocol],
    ["training step", given.finished === false ? `${given.step}, not finished` : given.step],
    ["threshold", `${given.threshold.value.toFixed(4)}: ${given.threshold.source}`],
  ];
  for (const [role, of] of Object.entries(given.figures)) {
    if ("auc" in of) {
      const errors = `attacks of the worst species accepted ${percent(of.apcer_max)}, live faces rejected ${percent(of.bpcer)}`;
      rows.push([`on its ${role} set`, `AUC ${of.auc.toFixed(3)}; ${errors}`]);
    }
  }
  for (const [name, text] of rows) $("card").append(element("dt", name), element("dd", String(text)));
  if (!given.explains) $("explain").parentElement.append(" (the crop; an exported file gives no attention)");
}

$("files").addEventListener("change", (event) => showAll(event.target.files));
$("camera").addEventListener("click", () => {
  if (stream) stop();
  else start().catch((error) => { stop(); say(error.message, true); });
});
for (const name of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") showAll(event.dataTransfer.files);
  });
}
fetch("/api/card").then((answer) => answer.json()).then(describe)
  .catch((error) => say(`The server does not answer: ${error.message}`, true));
