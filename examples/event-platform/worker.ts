// Processes events in their order, ten at a time, and answers the API.
import { createServer } from "node:http";
import { pool } from "./database";
import { log } from "./log";

async function processSome(): Promise<number> {
  const { rows } = await pool.query(
    `UPDATE events SET processed_at = now() WHERE id IN (
       SELECT id FROM events WHERE processed_at IS NULL ORDER BY id LIMIT 10 FOR UPDATE SKIP LOCKED)
     RETURNING id, source`,
  );
  for (const { id, source } of rows) log("info", "event processed", { event: "event.processed", event_id: id, source });
  return rows.length;
}

async function work(): Promise<void> {
  for (;;) {
    let done = 0;
    try {
      done = await processSome();
    } catch (error) {
      log("error", "processing failed", { event: "processing.failed", error_type: (error as Error).name });
    }
    await new Promise((next) => setTimeout(next, done ? 50 : 500));
  }
}

createServer((request, response) => {
  response.writeHead(200, { "content-type": "application/json" }).end('{"status":"ok"}');
}).listen(Number(process.env.PORT), "127.0.0.1");
void work();
