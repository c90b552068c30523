// Lists projects, shows one with its events, accepts events and asks the worker to enrich them.
import { createServer, IncomingMessage, ServerResponse } from "node:http";
import { randomUUID } from "node:crypto";
import { pool } from "./database";
import { log } from "./log";

type Handler = (parameter: string, body: string) => Promise<[number, unknown]>;

class NotFound extends Error {}

async function callWorker(path: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      const answer = await fetch(process.env.WORKER_URL + path, { signal: AbortSignal.timeout(500) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      return;
    } catch (error) {
      const fields = { peer: "worker", attempt, error_type: (error as Error).name };
      if (attempt === 3) {
        log("warn", "the worker cannot be reached", { event: "call.failed", ...fields });
        return; // an event without enrichment is better than none
      }
      log("info", "asking the worker again", { event: "call.retried", ...fields });
      await new Promise((done) => setTimeout(done, 50 * attempt));
    }
  }
}

const routes: [string, string, RegExp, Handler][] = [
  ["GET", "/projects", /^\/projects$/, async () => [200, (await pool.query("SELECT id, name FROM projects ORDER BY id LIMIT 50")).rows]],
  ["GET", "/projects/:id", /^\/projects\/(\d+)$/, async (id) => {
    const project = (await pool.query("SELECT id, name FROM projects WHERE id = $1", [id])).rows[0];
    if (!project) throw new NotFound();
    const events = await pool.query("SELECT id, source FROM events WHERE project = $1 ORDER BY id DESC LIMIT 20", [id]);
    return [200, { ...project, events: events.rows }];
  }],
  ["GET", "/report", /^\/report$/, async () => [200, (await pool.query("SELECT source, count(*), pg_sleep(0.12) FROM events GROUP BY source LIMIT 1")).rows]],
  ["GET", "/fail", /^\/fail$/, async () => { throw new TypeError("as asked"); }],
  ["GET", "/health", /^\/health$/, async () => { await pool.query("SELECT 1"); return [200, { status: "ok" }]; }],
  ["POST", "/events", /^\/events$/, async (_, body) => {
    const { source, project } = JSON.parse(body) as { source: string; project: number };
    const { rows } = await pool.query("INSERT INTO events (source, project) VALUES ($1, $2) RETURNING id", [source, project]);
    log("info", "event scraped", { event: "event.scraped", source, event_id: rows[0].id });
    await callWorker(`/enrich/${rows[0].id}`);
    return [202, { id: rows[0].id }];
  }],
];

async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const began = process.hrtime.bigint();
  const path = new URL(request.url ?? "/", "http://api").pathname;
  const found = routes.find(([method, , pattern]) => method === request.method && pattern.test(path));
  let [status, body]: [number, unknown] = [404, { error: "not found" }];
  let body_text = "";
  for await (const chunk of request) body_text += chunk;
  if (found) {
    try {
      [status, body] = await found[3](found[2].exec(path)?.[1] ?? "", body_text);
    } catch (error) {
      if (!(error instanceof NotFound)) {
        [status, body] = [500, { error: "internal" }];
        const { name, message } = error as Error;
        log("error", "request failed", { event: "request.failed", error_type: name, error: message, route: found[1] });
      }
    }
  }
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  const duration_ms = Number(process.hrtime.bigint() - began) / 1e6;
  const route = found ? found[1] : "unmatched";
  if (route !== "/health") {
    const request_id = request.headers["x-request-id"] ?? randomUUID();
    log("info", "request", { event: "request", method: request.method, route, status, duration_ms, request_id });
  }
}

createServer((request, response) => void handle(request, response)).listen(Number(process.env.PORT), "127.0.0.1");
