// Drives Chromium by orders from standard input, one JSON object a line, and answers each with one line.
// Usage: node drive.mjs PROFILE-FOLDER
import { chromium } from "playwright-core";
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";

// Limits, not waits: guests may be emulated, on a machine that is busy.
const LIMIT = 120_000;

const profile = process.argv[2];
let context;
let page;
// WebSockets that the page has opened, which are the desktop's streams.
let streams = 0;

const id = (name) => page.getByTestId(name);

// The picture itself, as rows of R, G, B, A.
async function picture() {
    return await page.locator("[data-testid=viewer] canvas").evaluateAll((all) => {
        const area = (canvas) => canvas.width * canvas.height;
        const { width, height } = all.reduce((a, b) => (area(b) > area(a) ? b : a));
        const largest = all.find((canvas) => canvas.width === width && canvas.height === height);
        const { data } = largest.getContext("2d").getImageData(0, 0, width, height);
        let binary = "";
        for (let at = 0; at < data.length; at += 0x8000) {
            binary += String.fromCharCode(...data.subarray(at, at + 0x8000));
        }
        return { width, height, rgba: btoa(binary) };
    });
}

// The pixels of the picture as the guest's, whatever size the page shows them in. The page has other canvases, which are
// empty while the desktop is there.
async function pixels() {
    const url = await page.locator("[data-testid=viewer] canvas").evaluateAll((all) => {
        const area = (canvas) => canvas.width * canvas.height;
        return all.reduce((a, b) => (area(b) > area(a) ? b : a)).toDataURL();
    });
    return { digest: createHash("sha256").update(url).digest("hex") };
}

async function openToolbar() {
    const open = await id("toolbar").getAttribute("data-open");
    if (open !== "true") await id("toolbar-tab").click();
}

// The clipboard panel's text field; the panel is opened when it is not there yet, and the keyboard stays the desktop's.
async function clipboardText() {
    const field = id("clipboard-text");
    if (!(await field.isVisible())) {
        await openToolbar();
        await id("toolbar-clipboard").click();
        await field.waitFor();
        await focusDesktop();
    }
    return field;
}

async function focusDesktop() {
    await page.locator("[data-testid=viewer] .viewer-layer canvas").first().focus();
}

// Runs in the page, before its own scripts: an ear at whatever is played.
function listen() {
    const connect = AudioNode.prototype.connect;
    const ears = new WeakMap();
    AudioNode.prototype.connect = function (to, ...rest) {
        if (to instanceof AudioDestinationNode) {
            let ear = ears.get(to.context);
            if (!ear) {
                ear = to.context.createAnalyser();
                ear.fftSize = 16384;
                ear.smoothingTimeConstant = 0;
                ears.set(to.context, ear);
                window.lucarneEar = ear;
            }
            connect.call(this, ear);
        }
        return connect.call(this, to, ...rest);
    };
}

// The loudest frequency, by the peak and its neighbours; none below -60 dB.
function loudest() {
    const ear = window.lucarneEar;
    if (!ear) return { hz: null };
    const bins = new Float32Array(ear.frequencyBinCount);
    ear.getFloatFrequencyData(bins);
    let peak = 1;
    for (let i = 1; i < bins.length - 1; i++) if (bins[i] > bins[peak]) peak = i;
    if (!(bins[peak] > -60)) return { hz: null };
    const [a, b, c] = [bins[peak - 1], bins[peak], bins[peak + 1]];
    const shift = (a - c) / (2 * (a - 2 * b + c)) || 0;
    return { hz: ((peak + shift) * ear.context.sampleRate) / ear.fftSize };
}

const orders = {
    async start() {
        context = await chromium.launchPersistentContext(profile, {
            executablePath: process.env.LUCARNE_TEST_CHROMIUM ?? "/usr/bin/chromium",
            ignoreHTTPSErrors: true,
            viewport: { width: 1280, height: 800 },
            args: [
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        });
        context.setDefaultTimeout(LIMIT);
        page = context.pages()[0] ?? (await context.newPage());
        await page.addInitScript(listen);
        page.on("websocket", () => (streams += 1));
    },
    async sign_in({ url, name, password }) {
        await page.goto(url);
        await id("signin-name").fill(name);
        await id("signin-password").fill(password);
        await id("signin-submit").click();
        await id("card").first().waitFor();
    },
    async connect() {
        await id("card-connect").first().click();
        await page.locator("[data-testid=viewer-state][data-state=connected]").waitFor({ state: "attached" });
    },
    pixels,
    picture,
    async stream() {
        return { state: await id("viewer-state").getAttribute("data-state"), number: streams };
    },
    async press({ keys }) {
        await page.keyboard.press(keys);
    },
    async hold({ key }) {
        await page.keyboard.down(key);
    },
    async type({ text }) {
        for (const line of text.split(/(\n)/)) {
            if (line === "\n") await page.keyboard.press("Enter");
            else await page.keyboard.type(line, { delay: 20 });
        }
    },
    async copy({ text }) {
        await (await clipboardText()).fill(text);
        await id("clipboard-send").click();
        await focusDesktop();
    },
    async clipboard() {
        return { text: await (await clipboardText()).inputValue() };
    },
    async open({ url }) {
        await page.goto(url);
    },
    async state({ state }) {
        await page.locator(`[data-testid=viewer-state][data-state=${state}]`).waitFor({ state: "attached" });
        return { detail: state === "ended" ? await id("end-detail").innerText() : "" };
    },
    async words({ id: name }) {
        return { text: await id(name).first().innerText() };
    },
    async click({ id: name }) {
        await id(name).first().click();
    },
    async gone({ id: name }) {
        await id(name).first().waitFor({ state: "detached" });
    },
    async screenshot({ path }) {
        await page.screenshot({ path });
    },
    async hears() {
        return await page.evaluate(loudest);
    },
    async toggle_sound() {
        await openToolbar();
        const button = id("toolbar-sound");
        const before = await button.textContent();
        await button.click();
        await page.waitForFunction(([own, old]) => own.textContent !== old, [await button.elementHandle(), before]);
        await focusDesktop();
        return { says: await button.textContent() };
    },
    async log_off() {
        await openToolbar();
        await id("toolbar-logoff").click();
        await id("logoff-confirm").click();
        await id("card-connect").first().waitFor();
    },
    async close() {
        await context.close();
    },
};

for await (const line of createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    try {
        const ok = (await orders[order.do](order)) ?? {};
        process.stdout.write(`${JSON.stringify({ ok })}\n`);
    } catch (error) {
        process.stdout.write(`${JSON.stringify({ error: String(error.stack ?? error) })}\n`);
    }
    if (order.do === "close") break;
}
// Also when whoever gave the orders has gone away.
await context?.close();
