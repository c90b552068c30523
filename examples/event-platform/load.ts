// Sends requests. Lines on standard input change it: `rate 100` (requests per second), `errors 0.2` (share that fails).
import { createInterface } from "node:readline";

const settings: Record<string, number> = { rate: Number(process.env.RATE ?? 10), errors: 0 };
createInterface({ input: process.stdin }).on("line", (line) => {
  const [name, value] = line.split(" ");
  if (name in settings) settings[name] = Number(value);
});

const sources = ["github", "gitlab", "manual"];
const some = (limit: number): number => 1 + Math.floor(Math.random() * limit);

async function one(): Promise<void> {
  const api = process.env.API_URL;
  const dice = Math.random();
  const options = { signal: AbortSignal.timeout(10_000) };
  if (Math.random() < settings.errors) await fetch(`${api}/fail`, options);
  else if (dice < 0.3) await fetch(`${api}/projects`, options);
  else if (dice < 0.6) await fetch(`${api}/projects/${some(200)}`, options);
  else if (dice < 0.62) await fetch(`${api}/report`, options);
  else {
    const body = JSON.stringify({ source: sources[some(3) - 1], project: some(200) });
    await fetch(`${api}/events`, { method: "POST", body, ...options });
  }
}

async function send(): Promise<void> {
  for (;;) {
    one().catch((error: Error) => process.stderr.write(`${error.message}\n`));
    await new Promise((next) => setTimeout(next, 1000 / settings.rate));
  }
}

void send();
