// JSON lines, one file for each service: what Deckwatch reads.
import { appendFileSync } from "node:fs";
import { join } from "node:path";

const service = process.env.DECKWATCH_SERVICE ?? "service";
const file = join(process.env.LOG_DIR ?? ".", `${service}.json`);

export function log(level: "debug" | "info" | "warn" | "error", message: string, fields: Record<string, unknown> = {}): void {
  const record = { time: new Date().toISOString(), level, service, msg: message, ...fields };
  appendFileSync(file, JSON.stringify(record) + "\n");
}
