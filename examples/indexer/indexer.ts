// Reads targets from Redis sets, asks the hub within a rate limit, and indexes what it gets in PostgreSQL.
// Lines on standard input change it: `pause 0` (ms between two targets), `leak 1048576` (bytes to keep each second).
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { PerformanceObserver } from "node:perf_hooks";
import pg from "pg";
import Redis from "ioredis";
import { log } from "./log";

const settings: Record<string, number> = { pause: Number(process.env.PAUSE ?? 200), leak: 0 };
createInterface({ input: process.stdin }).on("line", (line) => {
  const [name, value] = line.split(" ");
  if (name in settings) settings[name] = Number(value);
});

// The size of the pool depends on the stage.
const sizes: Record<string, number> = { production: 20, staging: 10, development: 5 };
const stage = process.env.STAGE ?? "development";
const pool = new pg.Pool({
  connectionString: process.env.DATABASE_URL,
  max: sizes[stage],
  connectionTimeoutMillis: 2000,
  application_name: `indexer-${stage}`,
});
pool.on("error", (error) => log("error", "database connection lost", { error_type: error.name }));
const redis = new Redis(process.env.REDIS_URL ?? "");
redis.on("error", (error: Error) => log("error", "redis", { error_type: error.name }));

const kinds = ["github", "gitlab", "forum"];
const kept: Buffer[] = [];

async function fill(): Promise<void> {
  for (const kind of kinds) await redis.sadd(`targets:${kind}`, ...Array.from({ length: 40 }, (_, n) => `${kind}${n}`));
}

// At most 600 requests a minute to each kind of source.
async function isWithinLimit(kind: string): Promise<boolean> {
  const key = `ratelimit:${kind}:${Math.floor(Date.now() / 60_000)}`;
  const count = await redis.incr(key);
  if (count === 1) await redis.expire(key, 120);
  return count <= 600;
}

async function fetchTarget(target: string): Promise<string> {
  const cached = await redis.get(`cache:${target}`);
  if (cached) return cached;
  const answer = await fetch(`${process.env.HUB_URL}/${target}`, { signal: AbortSignal.timeout(2000) });
  if (!answer.ok) throw new Error(`the hub answers ${answer.status}`);
  const { words } = (await answer.json()) as { words: string };
  await redis.set(`cache:${target}`, words, "EX", 30);
  return words;
}

async function index(kind: string): Promise<void> {
  const target = (await redis.srandmember(`targets:${kind}`)) ?? kind;
  if (!(await isWithinLimit(kind))) {
    log("info", "rate limit reached", { event: "ratelimit.reached", source: kind });
    return;
  }
  const began = performance.now();
  try {
    const words = await fetchTarget(target);
    await pool.query(
      "INSERT INTO documents (target, kind, body, words) VALUES ($1, $2, jsonb_build_object('w', $3::text), to_tsvector('simple', $3))",
      [target, kind, words],
    );
    await pool.query("SELECT count(*) FROM documents WHERE words @@ to_tsquery('simple', $1)", [words.split(" ")[0]]);
    log("info", "indexed", { event: "document.indexed", source: kind, target, duration_ms: performance.now() - began });
  } catch (error) {
    log("error", (error as Error).message, { event: "document.failed", source: kind, target, error_type: (error as Error).name });
  }
}

async function work(): Promise<void> {
  await fill();
  for (let n = 0; ; n++) {
    await index(kinds[n % kinds.length]);
    await new Promise((next) => setTimeout(next, settings.pause));
  }
}

new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) log("debug", "garbage collected", { event: "gc", duration_ms: entry.duration });
}).observe({ entryTypes: ["gc"] });
setInterval(() => {
  if (settings.leak) kept.push(Buffer.alloc(settings.leak, 1));
  const { heapUsed } = process.memoryUsage();
  log("debug", "memory", { event: "memory", heap_bytes: heapUsed + kept.length * settings.leak, pool_total: pool.totalCount, pool_waiting: pool.waitingCount });
}, 1000);

createServer((_, response) => response.writeHead(200).end("ok")).listen(Number(process.env.PORT), "127.0.0.1");
void work();
