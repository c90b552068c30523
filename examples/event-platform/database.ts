import pg from "pg";
import { log } from "./log";

export const pool = new pg.Pool({
  connectionString: process.env.DATABASE_URL,
  max: 5,
  connectionTimeoutMillis: 2000,
  application_name: process.env.DECKWATCH_SERVICE,
});
// A connection that breaks while nobody uses it must not end the process.
pool.on("error", (error) => log("error", "database connection lost", { error_type: error.name }));
