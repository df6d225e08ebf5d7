// Looks at a page in a headless Chromium, in two widths and two colour schemes: node look.mjs CHROMIUM URL FOLDER
// Prints what was seen as JSON and leaves a screenshot of each look in FOLDER.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [chromium, url, folder] = process.argv.slice(2);
const home = mkdtempSync(join(tmpdir(), "chromium"));
const root = process.getuid() === 0 ? ["--no-sandbox"] : [];
const browser = spawn(
  chromium,
  ["--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", `--user-data-dir=${home}`, ...root],
  { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] },
);
const [, , , into, out] = browser.stdio;
const waiting = new Map();
const troubles = [];
let next = 0;
let loaded = () => {};

let rest = "";
out.setEncoding("utf8");
out.on("data", (text) => {
  const messages = (rest + text).split("\0");
  rest = messages.pop();
  for (const message of messages.map((text) => JSON.parse(text))) {
    if (message.id) {
      const { resolve, reject } = waiting.get(message.id);
      waiting.delete(message.id);
      if (message.error) reject(new Error(message.error.message));
      else resolve(message.result);
    } else if (message.method === "Page.loadEventFired") loaded();
    else if (message.method === "Runtime.exceptionThrown") troubles.push(message.params.exceptionDetails.text);
    else if (message.method === "Log.entryAdded") troubles.push(`${message.params.entry.level}: ${message.params.entry.text}`);
  }
});

function call(method, params = {}, sessionId = undefined) {
  const id = ++next;
  into.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}

try {
  const { targetId } = await call("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
  const page = (method, params) => call(method, params, sessionId);
  for (const domain of ["Page", "Runtime", "Log"]) await page(`${domain}.enable`);
  const looks = [];
  for (const width of [400, 1200]) {
    for (const scheme of ["light", "dark"]) {
      await page("Emulation.setDeviceMetricsOverride", { width, height: 800, deviceScaleFactor: 1, mobile: width < 600 });
      await page("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
      const load = new Promise((resolve) => (loaded = resolve));
      await page("Page.navigate", { url });
      await load;
      const seen = `({
        inner: innerWidth,
        scroll: document.documentElement.scrollWidth,
        background: getComputedStyle(document.body).backgroundColor,
        ink: getComputedStyle(document.body).color,
        titles: [...document.querySelectorAll("h2")].map((title) => title.textContent),
        scripts: document.scripts.length,
        text: document.body.innerText,
      })`;
      const { result } = await page("Runtime.evaluate", { expression: seen, returnByValue: true });
      const { data } = await page("Page.captureScreenshot", { format: "png", captureBeyondViewport: true });
      writeFileSync(join(folder, `${width}-${scheme}.png`), Buffer.from(data, "base64"));
      looks.push({ width, scheme, ...result.value });
    }
  }
  console.log(JSON.stringify({ looks, troubles }));
} finally {
  browser.kill();
  await new Promise((resolve) => browser.once("exit", resolve));
  rmSync(home, { recursive: true, force: true, maxRetries: 5 });
}
