// The hub that the indexer reads from. `fail 1` on standard input makes it answer with 503.
import { createServer } from "node:http";
import { createInterface } from "node:readline";

let failing = false;
createInterface({ input: process.stdin }).on("line", (line) => {
  if (line.startsWith("fail ")) failing = line !== "fail 0";
});

createServer((request, response) => {
  const status = failing && request.url !== "/health" ? 503 : 200;
  const words = Array.from({ length: 20 }, () => Math.random().toString(36).slice(2, 7)).join(" ");
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify({ words }));
}).listen(Number(process.env.PORT), "127.0.0.1");
